"""Layer shapes of PyTorch models."""

from __future__ import annotations

import pytest

from archgym import networks
from archgym.errors import ArchGymError
from archgym.networks.layers import Layer
from archgym.networks.torch_reader import workload_from_torch

torch = pytest.importorskip("torch")
nn = torch.nn


def test_convolutions_and_linear():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, (3, 5), groups=16, padding=(1, 2)),
        nn.Conv2d(16, 32, 1, groups=4),
        nn.Flatten(2),
        nn.Conv1d(32, 8, 5, dilation=2),
        nn.Flatten(),
        nn.Linear(8 * 248, 10),
    )
    network = workload_from_torch(model, torch.zeros(2, 3, 32, 32), name="mine")
    assert network.name == "mine"
    assert network.layers == (
        Layer("0", N=2, K=16, C=3, P=16, Q=16, R=3, S=3, stride_p=2, stride_q=2),
        Layer("2", "depthwise", N=2, G=16, P=16, Q=16, R=3, S=5),
        Layer("3", N=2, K=8, C=4, P=16, Q=16, G=4),
        Layer("5", N=2, K=8, C=32, P=248, R=5, dilation_r=2),
        Layer("7", "gemm", K=10, C=1984, P=2),
    )


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.block = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)

    def forward(self, x):
        y, _ = self.attention(x, x, x)
        y = self.block(y)
        return torch.einsum("bij,bjk->bik", y, y.transpose(1, 2) @ y)


def test_attention_and_functional_products():
    model = Attention().train()
    network = workload_from_torch(model, torch.zeros(2, 10, 32))
    assert model.training and model.block.dropout.training
    kinds = sorted((layer.op, layer.G, layer.P, layer.K, layer.C) for layer in network.layers)
    assert ("bmm", 8, 10, 10, 8) in kinds  # scores: 2 x 4 heads of width 8
    assert ("bmm", 8, 10, 8, 10) in kinds  # values
    assert ("bmm", 4, 10, 10, 16) in kinds  # the encoder's, through the fused product
    assert ("gemm", 1, 20, 96, 32) in kinds  # query, key and value together
    assert ("bmm", 2, 32, 32, 10) in kinds and ("bmm", 2, 10, 32, 32) in kinds


def test_a_model_equals_the_catalogues_bert():
    width, heads = 768, 12

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            q, k, v = (t.view(*x.shape[:2], heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
            y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
            return self.down(self.up(self.out(y)))

    one = workload_from_torch(Block(), torch.zeros(1, 128, width))
    assert 12 * one.macs == networks.network("bert_base_s128").macs


def test_shared_layers_count_up():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return self.layer(self.layer(x))

    network = workload_from_torch(Twice(), {"x": torch.zeros(4, 8)})
    assert network.layers == (Layer("layer", "gemm", K=8, C=8, P=4, count=2),)


@pytest.mark.parametrize(
    ("model", "example", "words"),
    [
        (nn.Sequential(nn.LSTM(4, 4)), torch.zeros(1, 2, 4), "layer '0' is recurrent .LSTM."),
        (nn.Sequential(nn.ConvTranspose2d(1, 1, 2)), torch.zeros(1, 1, 4, 4), "layer '0' is a transposed"),
        (nn.Sequential(nn.Conv3d(1, 1, 2)), torch.zeros(1, 1, 4, 4, 4), "layer '0' is a 3-D"),
        (nn.ReLU(), torch.zeros(2), "nothing to map"),
        (nn.Linear(3, 4), torch.zeros(2, 5), "fails on the example input"),
        (3, torch.zeros(2), "is a int"),
    ],
)
def test_refusals_are_one_sentence(model, example, words):
    with pytest.raises(ArchGymError, match=words) as error:
        workload_from_torch(model, example)
    assert "\n" not in str(error.value)
