"""What happens on the node? The program that each machine runs; shares `core.wire` with the bot."""
