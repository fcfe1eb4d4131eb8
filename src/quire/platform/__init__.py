"""What the machine is: plain data (`caps`), and the torch calls that fill it (`detect`)."""
