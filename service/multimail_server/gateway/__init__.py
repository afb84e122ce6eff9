"""The HTTP port: the same service for those who speak HTTP; every call goes on to gRPC with the caller's own key."""
