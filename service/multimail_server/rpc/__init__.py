"""What is true of every call: boundary, auth, admission, validation, and how errors look on the wire."""
