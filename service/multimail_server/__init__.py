"""The Multimail service: contacts, mail and their log behind one gRPC API."""
