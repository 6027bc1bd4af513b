"""A time stamping authority (RFC 3161): `openssl ts -reply` behind Python's web server.

tsa_server.py FOLDER ADDRESS PORT [CERTIFICATE KEY]     with these two over TLS

The folder holds ts.cnf and, as NAME.pem and NAME.key, the signers. Each request looks at two files there: `mood` says what
is answered, `password` holds USER:PASSWORD where one is demanded. Every request adds its mood to the file `asked`.
"""

import base64
import http.server
import os
import pathlib
import ssl
import subprocess
import sys
import threading
import time

# Of Debian's package libfaketime.
AHEAD = {"LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "FAKETIME": "+10m"}
FOLDER = pathlib.Path(sys.argv[1])
ONE_AT_A_TIME = threading.Lock()


def said(name):
    try:
        return (FOLDER / name).read_text().strip()
    except FileNotFoundError:
        return ""


def reply(query, signer, environment={}):
    with ONE_AT_A_TIME:
        (FOLDER / "query.tsq").write_bytes(query)
        subprocess.run(
            ["openssl", "ts", "-reply", "-config", "ts.cnf", "-section", "one", "-queryfile", "query.tsq", "-signer",
             signer + ".pem", "-inkey", signer + ".key", "-out", "reply.tsr"],
            cwd=FOLDER, check=True, stderr=subprocess.DEVNULL, env=os.environ | environment)
        return (FOLDER / "reply.tsr").read_bytes()


def over_other_octets(query):
    # The digest follows the AlgorithmIdentifier of SHA-256 and the head of an OCTET STRING.
    place = query.index(bytes.fromhex("0609608648016503040201")) + 11 + 2 + 2
    return query[:place] + bytes(32) + query[place + 32:]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        query = self.rfile.read(int(self.headers["Content-Length"]))
        password = said("password")
        wanted = "Basic " + base64.b64encode(password.encode()).decode()
        if password and self.headers["Authorization"] != wanted:
            return self.give(401, "text/plain", b"who are you?")
        mood = said("mood")
        with open(FOLDER / "asked", "a") as asked:
            asked.write(mood + "\n")
        while said("mood") == "silent":
            time.sleep(0.05)
        if self.headers["Content-Type"] != "application/timestamp-query" or mood == "broken":
            return self.give(500, "text/plain", b"no")
        if mood == "page":
            return self.give(200, "text/html", b"<html>")
        if mood == "garbage":
            answer = b"<html>" * 100
        elif mood == "endless":
            answer = bytes(1 << 20)
        elif mood == "refusing":
            answer = reply(query.replace(bytes.fromhex("608648016503040201"), bytes.fromhex("608648016503040202")), "tsa")
        elif mood == "confused":
            answer = reply(over_other_octets(query), "tsa")
        elif mood == "stranger":
            answer = reply(query, "stranger")
        elif mood == "ahead":
            answer = reply(query, "tsa", AHEAD)
        else:
            answer = reply(query, "tsa")
        self.give(200, "application/timestamp-reply", answer)

    def give(self, status, kind, octets):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)


server = http.server.ThreadingHTTPServer((sys.argv[2], int(sys.argv[3])), Handler)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
