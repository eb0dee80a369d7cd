"""A BERT encoder as an ONNX graph, drawn from its weights: fp32, or int8 where that costs little accuracy.

The graph takes one or more texts of equal length and therefore has no attention mask. Inputs and outputs:

- `input_ids` int32 `(n_texts, n_tokens)`, special tokens included
- `sentence` float32 `(n_texts, hidden)`: the mean over all tokens, each row of length 1
- `tokens` float32 `(n_texts, n_tokens, hidden)`: the last hidden states, each of length 1

Choices that were measured (two cores with AVX512-VNNI, abstracts of 190 tokens; `benchmarks/encoder.py`):

- Add and LayerNormalization stay apart: ONNX Runtime's fused SkipLayerNormalization took 27 % of a pass on
  the CPU, the two plain operators 5 %. A session must not fuse them again (optimisation level "basic").
- Weights have 7 bits, not 8. Processors without VNNI add pairs of products in 16 bits, which saturate with
  8-bit weights; with 7 the vectors are the same on every processor, for .001 of cosine.
- The feed-forward output is the layer that loses most in int8, since few of the values behind a GELU are
  large. In the first three layers it stays in fp32: cosine .9965 instead of .993, for a fifth of the speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from indexing.types import Floats

_MICROSOFT = "com.microsoft"
_OPSETS = {"": 21, _MICROSOFT: 1}
_IR_VERSION = 10
_WEIGHT_LEVELS = 63  # 7 bits, symmetric
_FP32_OUTPUT_LAYERS = 3
_LAYER_NORM_EPSILON = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """The numbers of a BERT configuration that its weights do not tell; fewer layers cut the model there."""

    n_layers: int
    n_heads: int


def build_bert(weights: Mapping[str, Floats], shape: BertShape, *, int8: bool) -> bytes:
    """The serialised graph. `weights` is named as in a BertModel's state; same weights, same bytes."""
    return _Drawing(weights, shape, int8).draw()


class _Drawing:
    """Collects the nodes and initialisers of one graph; a method adds a part and gives its output's name."""

    def __init__(self, weights: Mapping[str, Floats], shape: BertShape, int8: bool) -> None:
        self._weights = weights
        self._shape = shape
        self._int8 = int8
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def draw(self) -> bytes:
        hidden = self._embeddings()
        for layer in range(self._shape.n_layers):
            hidden = self._layer(layer, hidden)
        mean = self._node(
            "ReduceMean", [hidden, self._constant("token_axis", np.array([1]))], "mean", keepdims=0
        )
        self._node("LpNormalization", [mean], "sentence", axis=-1, p=2)
        self._node("LpNormalization", [hidden], "tokens", axis=-1, p=2)
        return self._serialised()

    def _embeddings(self) -> str:
        table = "embeddings.word_embeddings.weight"
        # Half precision halves the largest part of the file and moves a vector by less than 1e-6.
        words = self._constant("words", self._weights[table].astype(np.float16))
        gathered = self._node("Gather", [words, "input_ids"], "word_halves")
        embedded = self._node("Cast", [gathered], "word_vectors", to=TensorProto.FLOAT)
        segment = self._weights["embeddings.token_type_embeddings.weight"][0]
        positions = self._weights["embeddings.position_embeddings.weight"] + segment
        first = self._constant("first", np.array([0]))
        length = self._node("Shape", ["input_ids"], "length", start=1, end=2)
        placed = self._node("Slice", [self._constant("positions", positions), first, length, first], "places")
        total = self._node("Add", [embedded, placed], "embedding_sum")
        return self._layer_norm(total, "embeddings.LayerNorm", "embedded")

    def _layer(self, layer: int, hidden: str) -> str:
        prefix = f"encoder.layer.{layer}."
        context = self._attention(layer, hidden)
        attended = self._linear(context, [prefix + "attention.output.dense"], f"attention_out.{layer}")
        residual = self._node("Add", [hidden, attended], f"attention_sum.{layer}")
        middle = self._layer_norm(residual, prefix + "attention.output.LayerNorm", f"attended.{layer}")
        wide = self._linear(middle, [prefix + "intermediate.dense"], f"wide.{layer}")
        activated = self._node("Gelu", [wide], f"gelu.{layer}", domain=_MICROSOFT)
        narrow = self._linear(
            activated, [prefix + "output.dense"], f"narrow.{layer}", keep_fp32=layer < _FP32_OUTPUT_LAYERS
        )
        total = self._node("Add", [middle, narrow], f"output_sum.{layer}")
        return self._layer_norm(total, prefix + "output.LayerNorm", f"hidden.{layer}")

    def _attention(self, layer: int, hidden: str) -> str:
        prefix = f"encoder.layer.{layer}.attention.self."
        joined = self._linear(hidden, [prefix + part for part in ("query", "key", "value")], f"qkv.{layer}")
        parts = [f"{part}.{layer}" for part in ("query", "key", "value")]
        self._nodes.append(helper.make_node("Split", [joined], parts, axis=-1, num_outputs=3))
        return self._node(
            "MultiHeadAttention", parts, f"context.{layer}", domain=_MICROSOFT, num_heads=self._shape.n_heads
        )

    def _layer_norm(self, source: str, name: str, output: str) -> str:
        scale = self._constant(name + ".weight", self._weights[name + ".weight"])
        shift = self._constant(name + ".bias", self._weights[name + ".bias"])
        return self._node(
            "LayerNormalization", [source, scale, shift], output, axis=-1, epsilon=_LAYER_NORM_EPSILON
        )

    def _linear(self, source: str, names: list[str], output: str, *, keep_fp32: bool = False) -> str:
        """One product with the joined weights of the named dense layers, and their biases."""
        weight = np.concatenate([self._weights[name + ".weight"].T for name in names], axis=1)
        bias = self._constant(
            output + ".bias", np.concatenate([self._weights[name + ".bias"] for name in names])
        )
        if keep_fp32 or not self._int8:
            product = self._node(
                "MatMul", [source, self._constant(output + ".weight", weight)], output + ".product"
            )
            return self._node("Add", [product, bias], output)
        levels, scales = quantize_columns(weight)
        inputs = [
            source,
            self._constant(output + ".weight", levels),
            self._constant(output + ".scale", scales),
            self._constant(output + ".zero", np.zeros(len(scales), np.int8)),
            bias,
        ]
        return self._node("DynamicQuantizeMatMul", inputs, output, domain=_MICROSOFT)

    def _node(
        self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any
    ) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        if all(tensor.name != name for tensor in self._constants):
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _serialised(self) -> bytes:
        width = self._weights["embeddings.LayerNorm.weight"].shape[0]
        sentence = helper.make_tensor_value_info("sentence", TensorProto.FLOAT, ["n_texts", width])
        tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["n_texts", "n_tokens", width])
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["n_texts", "n_tokens"])
        graph = helper.make_graph(self._nodes, "bert", [ids], [sentence, tokens], self._constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))


def quantize_columns(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Levels and scales of a weight `(n_in, n_out)`, symmetric, one scale for each output.

    >>> levels, scales = quantize_columns(np.array([[6.3, -8.0], [0.1, 4.2]], np.float32))
    >>> levels.tolist()
    [[63, -63], [1, 33]]
    >>> scales.round(4).astype(str).tolist()
    ['0.1', '0.127']
    """
    largest = np.abs(weight).max(axis=0)
    scales = (np.where(largest > 0, largest, 1) / _WEIGHT_LEVELS).astype(np.float32)
    levels = np.clip(np.rint(weight / scales), -_WEIGHT_LEVELS, _WEIGHT_LEVELS).astype(np.int8)
    return levels, scales
