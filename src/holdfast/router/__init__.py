"""The WAMP router: sockets, flow control and sign-in around the rules of core/wamp."""
