"""Messages and stubs, made from `control.proto` by `make proto`."""
