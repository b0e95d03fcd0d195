"""A server of lists over HTTPS: what lies in its folder, each with an ETag, and some answers no list should give."""
import gzip, hashlib, http.server, os, ssl, sys

folder, address, port, certificate, key = sys.argv[1:6]


class Lists(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = self.path.lstrip("/").split("?")[0]
        if name == "to-http":
            return self.answer(302, {"Location": f"http://{address}:8080/list?secret"})
        if name == "to-list":
            return self.answer(302, {"Location": "/list"})
        if name == "round":
            return self.answer(302, {"Location": "/round"})
        if name == "busy":
            return self.answer(429, {"Retry-After": "7200"})
        if name == "bomb":
            # A GiB in a MiB.
            return self.answer(200, {"Content-Encoding": "gzip"}, gzip.compress(b"x" * (1 << 26)) * 16)
        try:
            body = open(os.path.join(folder, name), "rb").read()
        except OSError:
            return self.answer(404)
        tag = '"%s"' % hashlib.sha256(body).hexdigest()
        if self.headers.get("If-None-Match") == tag:
            return self.answer(304, {"ETag": tag})
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            return self.answer(200, {"ETag": tag, "Content-Encoding": "gzip"}, gzip.compress(body))
        self.answer(200, {"ETag": tag}, body)

    def answer(self, status, headers={}, body=b""):
        with open(os.path.join(folder, "log"), "a") as log:
            log.write(f"{status} {self.path} {self.headers.get('User-Agent')}\n")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # Whoever has read enough hangs up.

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer((address, int(port)), Lists)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
