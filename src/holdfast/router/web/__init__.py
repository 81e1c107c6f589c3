"""The HTTP services of a port: pages, files, bridges and applications beside the WebSocket.

`connection.serve_http` takes a connection, `site.Site` says what is served.
"""
