"""A server that speaks OpenAI's wire on loopback, and a small shop's program that talks to it: `hub demo`."""
