"""The shortest use of Chimera: a task type, and a program that uses it.

chimera up -f examples/hello.yaml
python -m examples.hello
chimera down
"""

from __future__ import annotations

import chimera


@chimera.task("hello")
def hello(name: str) -> str:
    return f"Hello, {name}!"


def main() -> None:
    with chimera.connect() as swarm:
        handle = swarm.submit(hello, "World")  # durable when this returns
        print(handle.id, handle.result())
        for greeting in swarm.submit_many(hello, ["Ada", "Grace", "Edsger"]).results():
            print(greeting)


if __name__ == "__main__":
    main()
