"""Depth, shapes and refusals of the classifiers."""

import pytest
import torch
from torch import nn

from labs.runtime.errors import InputError
from labs.vision.models import FAMILIES, ResidualBlock, build_model, count_parameters


def modules_of(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("family", ["cnn", "rescnn"])
@pytest.mark.parametrize("depth", [1, 3, 21, 51])
def test_depth_counts_convolutions(family, depth):
    model = build_model(family, depth, 8, (3, 32, 32), 10)
    convolutions = modules_of(model, nn.Conv2d)
    assert len(convolutions) == depth
    assert len(modules_of(model, nn.BatchNorm2d)) == depth
    assert all(conv.kernel_size == (3, 3) and conv.stride == (1, 1) for conv in convolutions)
    assert len(modules_of(model, nn.Linear)) == 1


def test_plain_and_residual_have_the_same_parameters():
    plain = build_model("cnn", 11, 16, (1, 8, 8), 10)
    residual = build_model("rescnn", 11, 16, (1, 8, 8), 10)
    stem, block, dense = 9 * 16 + 2 * 16, 9 * 16 * 16 + 2 * 16, 16 * 10 + 10
    assert count_parameters(plain) == count_parameters(residual) == stem + 10 * block + dense


def test_mlp_of_the_reference():
    model = build_model("mlp", 2, 128, (1, 28, 28), 10)
    shapes = [(layer.in_features, layer.out_features) for layer in modules_of(model, nn.Linear)]
    assert shapes == [(784, 128), (128, 64), (64, 10)]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_take_both_signs(family):
    torch.manual_seed(0)
    logits = build_model(family, 3, 8, (1, 8, 8), 10)(torch.randn(32, 1, 8, 8))
    assert logits.shape == (32, 10)
    assert (logits < 0).any() and (logits > 0).any()


@pytest.mark.parametrize("family", ["cnn", "rescnn"])
def test_convolutional_models_take_images_of_any_size(family):
    model = build_model(family, 3, 8, (3, 32, 32), 5).eval()
    assert model.features(torch.randn(2, 3, 47, 21)).shape == (2, 8, 47, 21)
    assert model(torch.randn(2, 3, 47, 21)).shape == (2, 5)


def test_a_block_without_weights_is_the_identity():
    block = ResidualBlock(4).eval()
    nn.init.zeros_(block.second.weight)
    x = torch.rand(2, 4, 6, 6)  # positive, so that the last ReLU changes nothing
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize("depth, nearest", [(20, "19 or 21"), (2, "1 or 3"), (0, "1 or 3")])
def test_residual_depth_must_be_odd(depth, nearest):
    with pytest.raises(InputError, match=nearest):
        build_model("rescnn", depth, 8, (1, 8, 8), 10)


@pytest.mark.parametrize("depth", [0, -3])
@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_depth_must_be_positive(family, depth):
    with pytest.raises(InputError, match="`depth`"):
        build_model(family, depth, 8, (1, 8, 8), 10)


def test_unknown_family_names_the_known_ones():
    with pytest.raises(InputError, match="resnet is unknown: use mlp, cnn, rescnn"):
        build_model("resnet", 3, 8, (1, 8, 8), 10)


@pytest.mark.parametrize(("family", "depth"), [("cnn", 4), ("rescnn", 5)])
def test_without_batch_norm_convolutions_have_biases(family, depth):
    normed = build_model(family, depth, 6, (3, 8, 8), 10)
    plain = build_model(family, depth, 6, (3, 8, 8), 10, batch_norm=False)
    convolutions = modules_of(plain, nn.Conv2d)
    assert modules_of(plain, nn.BatchNorm2d) == [] and len(convolutions) == depth
    assert all(layer.bias is not None for layer in convolutions)
    # A norm has a scale and a shift per channel, a convolution without one a bias.
    assert count_parameters(normed) - count_parameters(plain) == depth * 6
    # Nothing mixes the images of a batch.
    images = torch.randn(7, 3, 8, 8)
    together = plain.train()(images)
    apart = torch.cat([plain(image[None]) for image in images])
    torch.testing.assert_close(together, apart)
    assert not torch.allclose(normed.train()(images), normed(images[:2])[:1].expand(7, -1))
