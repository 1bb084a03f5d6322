"""The leader's machine: ready queue, keys, dispatch, settling, takeover."""

from chimera.swarm.leader.machine import LeaderMachine as LeaderMachine
