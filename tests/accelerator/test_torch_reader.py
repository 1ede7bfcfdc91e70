"""Layer shapes of PyTorch models."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym import networks
from archgym.errors import ArchGymError
from archgym.networks.layers import Layer
from archgym.networks.torch_reader import workload_from_torch

torch = pytest.importorskip("torch")
nn = torch.nn
FlopCounterMode = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode


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
        (nn.ReLU(), torch.zeros(2), "nothing to map"),
        (nn.Linear(3, 4), torch.zeros(2, 5), "fails on the example input"),
        (3, torch.zeros(2), "is a int"),
    ],
)
def test_refusals_are_one_sentence(model, example, words):
    with pytest.raises(ArchGymError, match=words) as error:
        workload_from_torch(model, example)
    assert "\n" not in str(error.value)


# --- nothing vanishes --------------------------------------------------------------------------------------------------


class Does(nn.Module):
    """A module that does what a function does."""

    def __init__(self, does, **parts):
        super().__init__()
        self.does = does
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.does(self, *inputs)


def _inference(module, x):
    with torch.inference_mode():
        y = module.linear(module.conv(x).mean((2, 3)))
        return torch.einsum("bi,ij->bj", y, torch.zeros(4, 5)), nn.functional.scaled_dot_product_attention(y, y, y)


def _experts(module, x):
    """Sixteen tokens, two of four experts each, as mixture-of-experts models run them."""
    rows = x.repeat_interleave(2, 0)
    ends = torch.tensor([5, 5, 20, 32], dtype=torch.int32)  # an expert without a token
    hidden = torch._grouped_mm(rows, torch.zeros(4, 64, 256, dtype=x.dtype), offs=ends)
    return torch._grouped_mm(hidden[:, :128] * hidden[:, 128:], torch.zeros(4, 128, 64, dtype=x.dtype), offs=ends)


def _float8(_module, x):
    left, right = torch.zeros(16, 32).to(torch.float8_e4m3fn), torch.zeros(48, 32).to(torch.float8_e4m3fn).t()
    return torch._scaled_mm(left, right, torch.ones(()), torch.ones(()), out_dtype=torch.float32)


BF16 = torch.bfloat16
COUNTED = {
    "inference mode": (Does(_inference, linear=nn.Linear(8, 4), conv=nn.Conv2d(3, 8, 3)), torch.zeros(2, 3, 6, 6),
                       2 * 8 * 27 * 16 + 2 * 8 * 4 + 2 * 4 * 5 + 2 * 2 * 2 * 4),
    "experts": (Does(_experts), torch.zeros(16, 64, dtype=BF16), 16 * 2 * (64 * 256 + 128 * 64)),
    "addmv": (Does(lambda _, x: torch.addmv(x[:, 0], x, x[0])), torch.zeros(6, 6), 36),
    "addbmm": (Does(lambda _, x: torch.addbmm(x[0], x, x)), torch.zeros(3, 4, 4), 3 * 64),
    "addr": (Does(lambda _, x: torch.addr(torch.zeros(4, 6), x[:4], x)), torch.zeros(6), 24),
    "float 8": (Does(_float8), torch.zeros(1), 16 * 48 * 32),
    "8-bit weights": (Does(lambda _, x: torch._weight_int8pack_mm(x, torch.zeros(64, 32, dtype=torch.int8),
                                                                  torch.ones(64, dtype=BF16))),
                      torch.zeros(4, 32, dtype=BF16), 4 * 32 * 64),
    "a 3-D convolution": (nn.Conv3d(2, 4, 3), torch.zeros(1, 2, 8, 8, 5), 4 * 2 * 27 * 6 * 6 * 3),
    "a 3-D convolution of flat taps": (nn.Conv3d(1, 16, (7, 7, 1), padding=(3, 3, 0)), torch.zeros(1, 1, 8, 8, 32),
                                       16 * 49 * 64 * 32),
    "a transposed convolution": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), torch.zeros(1, 4, 8, 8),
                                 64 * 4 * 3 * 9),
    "a branch": (Does(lambda _, x: torch.cond(x.sum() == 0, lambda y: y @ y, lambda y: y, (x,))), torch.zeros(3, 3), 27),
    "the branch taken": (Does(lambda _, x: torch.cond(x.sum() == 0, lambda y: y[:1] @ y, lambda y: (y @ y)[:1], (x,))),
                         torch.zeros(3, 3), 9),
    "a scripted part": (Does(lambda self, x: self.part(x), part=torch.jit.script(nn.Linear(8, 4))), torch.zeros(2, 8), 64),
    "a scripted model": (torch.jit.script(nn.Sequential(nn.Linear(8, 4), nn.ReLU())), torch.zeros(2, 8), 64),
    "a traced model": (torch.jit.trace(nn.Linear(8, 4), torch.zeros(2, 8)), torch.zeros(2, 8), 64),
    "an affine grid": (Does(lambda _, x: nn.functional.affine_grid(x, [2, 1, 4, 5], align_corners=False)),
                       torch.zeros(2, 2, 3), 2 * 20 * 2 * 3),
}  # fmt: skip


@pytest.mark.parametrize("title", COUNTED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_product_is_counted(title):
    model, example, macs = COUNTED[title]
    assert workload_from_torch(model, example).macs == macs


def test_layers_of_experts_and_of_three_axes():
    experts = workload_from_torch(Does(_experts), torch.zeros(16, 64, dtype=BF16))
    assert sorted((layer.P, layer.K, layer.C) for layer in experts.layers) == sorted(
        (rows, *size) for rows in (5, 15, 12) for size in ((256, 64), (64, 128))
    )
    (layer,) = workload_from_torch(nn.Conv3d(2, 4, (3, 5, 1)), torch.zeros(1, 2, 8, 8, 6)).layers
    assert layer == Layer("conv3d", N=6, K=4, C=2, P=6, Q=4, R=3, S=5)


def test_flexible_attention_counts_as_the_two_products():
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    example = torch.zeros(1, 2, 16, 8)
    network = workload_from_torch(Does(lambda _, x: flex.flex_attention(x, x, x)), example)
    assert [(layer.G, layer.P, layer.K, layer.C) for layer in network.layers] == [(2, 16, 16, 8), (2, 16, 8, 16)]


@pytest.mark.filterwarnings("ignore")
def test_quantised_layers_are_counted():
    quantization = torch.ao.quantization
    dynamic = quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), {nn.Linear})
    assert workload_from_torch(dynamic, torch.zeros(3, 8)).macs == 3 * 8 * 4
    model = quantization.QuantWrapper(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, groups=8))
    ).eval()
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    prepared = quantization.prepare(model)
    prepared(torch.zeros(1, 3, 10, 10))
    first, second = workload_from_torch(quantization.convert(prepared), torch.zeros(1, 3, 10, 10)).layers
    assert (first.bounds, second.bounds) == ((1, 8, 3, 8, 8, 3, 3, 1), (1, 1, 1, 3, 3, 3, 3, 8))
    assert second.op == "depthwise" and second.stride_p == 2


@torch.library.custom_op("archgym_tests::blend", mutates_args=())
def blend(x: torch.Tensor) -> torch.Tensor:
    return x @ x


NOT_KNOWN = {
    "archgym_tests::blend": lambda _, x: blend(x) + x @ x,
    "aten::_fft_r2c": lambda _, x: torch.fft.rfft(x @ x).real,
    "aten::_cdist_forward": lambda _, x: torch.cdist(x, x),
    "aten::linalg_inv_ex": lambda _, x: torch.linalg.inv(x + torch.eye(6)),
    "aten::_trilinear": lambda _, x: nn.functional.bilinear(x, x, torch.zeros(2, 6, 6)),
    "sparse matrix": lambda _, x: torch.sparse.mm(torch.eye(6).to_sparse(), x),
}


@pytest.mark.parametrize("title", NOT_KNOWN)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_operation_that_is_not_known_is_named(title):
    with pytest.raises(ArchGymError, match=title) as found:
        workload_from_torch(Does(NOT_KNOWN[title]), torch.zeros(6, 6))
    assert len(str(found.value)) < 300 and "does'" in str(found.value)


def test_an_operation_is_left_out_on_request_and_the_network_says_so():
    model = Does(NOT_KNOWN["archgym_tests::blend"])
    network = workload_from_torch(model, torch.zeros(6, 6), left_out=["archgym_tests::blend"])
    assert network.macs == 216 and "left out: archgym_tests::blend ('does')" in network.description


@pytest.mark.filterwarnings("ignore")
def test_nested_tensors_are_refused_for_what_they_are():
    rows = torch.nested.nested_tensor([torch.zeros(2, 8), torch.zeros(3, 8)], layout=torch.jagged)
    with pytest.raises(ArchGymError, match="runs on nested tensors"):
        workload_from_torch(nn.Linear(8, 4), rows)


@pytest.mark.filterwarnings("ignore")
def test_convolutions_fused_for_inference_are_refused_and_never_lost():
    convolutions, image = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval(), torch.zeros(1, 3, 8, 8)
    frozen = torch.jit.freeze(torch.jit.script(convolutions))
    assert workload_from_torch(nn.Sequential(frozen, nn.Linear(6, 4)), image).macs == 8 * 27 * 36 + 8 * 6 * 6 * 4
    fused = torch.jit.optimize_for_inference(torch.jit.script(convolutions))
    if not fused.graph.findAllNodes("prim::mkldnn_convolution"):
        pytest.skip("this PyTorch has no MKL-DNN, whose convolutions are the fused ones")
    with pytest.raises(
        ArchGymError, match="layer '0' holds convolutions that torch.jit.optimize_for_inference has fused"
    ):
        workload_from_torch(nn.Sequential(fused, nn.Linear(6, 4)), image)


def test_exported_models_have_one_mode_and_are_read_in_it():
    body = nn.Sequential(nn.Linear(8, 4), nn.Dropout(), nn.Linear(4, 3))
    exported = torch.export.export(body.eval(), (torch.zeros(2, 8),)).module()
    assert workload_from_torch(exported, torch.zeros(2, 8)).macs == 2 * (8 * 4 + 4 * 3)
    around = nn.Sequential(exported, nn.Dropout(), nn.Linear(3, 5))
    assert workload_from_torch(around, torch.zeros(2, 8)).macs == 2 * (8 * 4 + 4 * 3 + 3 * 5)
    assert around.training and around[1].training


def test_the_description_says_where_pytorchs_counter_differs():
    plain = workload_from_torch(nn.Linear(8, 4), torch.zeros(2, 8))
    assert plain.description == "Linear, read from PyTorch"
    network = workload_from_torch(Does(lambda _, x: torch.addmv(x[:, 0], x, (x @ x)[0])), torch.zeros(6, 6))
    assert "252 multiply-accumulates, by PyTorch's counter 216" in network.description
    assert "aten::addmv (which it does not count)" in network.description


PIECES = st.sampled_from(
    ["linear", "conv1", "conv2", "conv3", "grouped", "transposed", "matmul", "baddbmm", "attention"]
)


@settings(max_examples=25, deadline=None)
@given(
    pieces=st.lists(PIECES, min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 6), min_size=4, max_size=4),
    inference=st.booleans(),
)
def test_multiply_accumulates_equal_pytorchs_counter(pieces, sizes, inference):
    a, b, c, d = sizes

    def run(_module, x):
        with torch.inference_mode(inference):
            for piece in pieces:
                if piece == "linear":
                    nn.functional.linear(torch.zeros(a, b, c), torch.zeros(d, c))
                elif piece.startswith("conv"):
                    axes = int(piece[-1])
                    convolve = getattr(nn.functional, f"conv{axes}d")
                    convolve(
                        torch.zeros(a, b, *[c + 2] * axes), torch.zeros(d, b, *[min(3, c)] * axes), stride=2, padding=1
                    )
                elif piece == "grouped":
                    nn.functional.conv2d(
                        torch.zeros(a, 2 * b, 7, c + 2), torch.zeros(2 * d, b, 3, 1), groups=2, dilation=2
                    )
                elif piece == "transposed":
                    nn.functional.conv_transpose2d(torch.zeros(a, b, c, d), torch.zeros(b, c, 3, 2), stride=2)
                elif piece == "matmul":
                    torch.zeros(a, b, c) @ torch.zeros(c, d)
                    torch.zeros(a, b, c) @ torch.zeros(a, c, d)
                elif piece == "baddbmm":
                    torch.baddbmm(torch.zeros(a, b, d), torch.zeros(a, b, c), torch.zeros(a, c, d))
                else:
                    q = torch.zeros(1, a, b, c)
                    torch.softmax(q @ q.transpose(-2, -1), -1) @ q
        return x

    model = Does(run)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1))
    network = workload_from_torch(model, torch.zeros(1))
    assert network.macs == counter.get_total_flops() // 2
    assert network.description == "Does, read from PyTorch"


def test_a_branch_says_what_the_dearer_one_would_count():
    # PyTorch's counter takes the dearer branch, whichever runs: an upper bound, not the example's work.
    model = Does(lambda _, x: torch.cond(x.sum() == 0, lambda y: y[:1] @ y, lambda y: (y @ y)[:1], (x,)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(3, 3))
    said = workload_from_torch(model, torch.zeros(3, 3)).description
    assert counter.get_total_flops() == 2 * 27 and "27 there, of the dearer branch; 9 here" in said
    assert "dearer" not in workload_from_torch(model, torch.ones(3, 3)).description


class InThread(nn.Module):
    """Does work in a thread of its own."""

    def __init__(self, work, pool):
        super().__init__()
        self.first, self.other, self.work, self.pool = nn.Linear(4, 4), nn.Linear(4, 4), work, pool

    def forward(self, x):
        x = self.first(x)
        if self.pool:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(self.work, self, x).result()
        found = []
        thread = threading.Thread(target=lambda: found.append(self.work(self, x)))
        thread.start()
        thread.join()
        return found[0]


@pytest.mark.parametrize("pool", [False, True])
def test_products_in_other_threads_are_refused_and_never_lost(pool, capfd):
    for work in (lambda self, x: self.other(x), lambda _, x: x @ x.T):
        model = InThread(work, pool)
        with pytest.raises(ArchGymError, match="in another thread"):
            workload_from_torch(model, torch.zeros(2, 4))
        assert model(torch.zeros(2, 4)) is not None  # left as it was
    free = workload_from_torch(InThread(lambda _, x: x.relu(), pool), torch.zeros(2, 4))
    assert [layer.macs for layer in free.layers] == [32]
    assert capfd.readouterr().err == ""
