"""The reference of the HTTP port: an OpenAPI document and a page, both made from the protos and the rules' bounds."""
