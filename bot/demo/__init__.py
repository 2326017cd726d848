"""The demonstration: stand-ins for what costs money or an account, and the door that shows them."""
