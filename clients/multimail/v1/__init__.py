"""Stubs made from protos/multimail/v1; never edited by hand."""
