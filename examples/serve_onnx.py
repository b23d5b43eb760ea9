"""Serves an exported model: `python examples/serve_onnx.py model.onnx`, then POST rows of raw inputs as JSON.

Made by `hpcnn export RUN --format onnx`; needs onnxruntime and NumPy, not hpcnn. Try it by:
curl -d "[$ROW, $ROW]" http://127.0.0.1:8000
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])


class Predictions(BaseHTTPRequestHandler):
    """Answers a list of inputs with the list of the model's outputs."""

    def do_POST(self) -> None:
        """Answer one request."""
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (outputs,) = session.run(["output"], {"input": np.array(rows, np.float32)})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(outputs.tolist()).encode())


server = HTTPServer(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 8000), Predictions)
print(f"listening at http://127.0.0.1:{server.server_port}")
server.serve_forever()
