#!/usr/bin/env bash
# onnxruntime 1.32.0 (onnx 1.23.2), CPU: random operators without a seed repeat themselves.
# One would guess that RandomNormal and RandomUniform without `seed` draw other numbers in each session and in each node
# of a graph. All sessions that one process makes from a model draw the same numbers in the same order, so that four
# sessions of a generator with noise inside make the same four pictures; and since seeds of neighbouring nodes are
# consecutive numbers, the first uniform number of each node of a graph is nearly the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet onnx==1.23.2 onnxruntime==1.32.0
cat > random_numbers.py <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

def session(operator):
    nodes = [helper.make_node(operator, [], [name], shape=[3]) for name in ("a", "b")]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("a", "b")]
    model = helper.make_model(
        helper.make_graph(nodes, "two nodes", [], outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

same, first = True, []
for operator in ("RandomNormal", "RandomUniform"):
    one, other = session(operator), session(operator)
    for draw in (1, 2):
        here, there = (np.stack(each.run(None, {})).astype(float) for each in (one, other))
        print(f"{operator}, draw {draw}: session 1 {here.round(3).tolist()}, session 2 {there.round(3).tolist()}")
        same = same and np.array_equal(here, there)
for _ in range(20):
    a, b = session("RandomUniform").run(None, {})
    first.append(abs(float(a[0] - b[0])))
print(f"first numbers of two nodes differ by {max(first):.6f} at most, in {len(first)} sessions")
assert same, "sessions of one process draw different numbers now"
assert max(first) < 0.001, "nodes of one graph begin with different numbers now"
PY
venv/bin/python random_numbers.py
echo "as described"
