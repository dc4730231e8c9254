#!/usr/bin/python3
"""Trains the demo's digit classifier and packs its data: demo/digits.onnx, demo/digits.tar.gz (calibration samples)
and demo/eval.tar.gz (labelled test samples). The same files byte for byte on every run.

Run by hand, when the demo model should change; needs Debian's python3-torch, python3-sklearn and python3-onnx:
    /usr/bin/python3 scripts/train_demo.py
The digits are scikit-learn's copy of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak; UCI, CC BY 4.0).
"""
import gzip
import io
import os
import tarfile

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from torch import nn

SEED = 7
CALIBRATION_SAMPLES = 64
TEST_SAMPLES = 500
EPOCHS = 60
DEMO = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "demo")


def conv_bn(inputs, outputs, kernel=3, stride=1, groups=1, activation=None):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([activation] if activation else []))


class Residual(nn.Module):
    """Expand, depthwise convolution, project, and add what came in."""

    def __init__(self, channels, expanded):
        super().__init__()
        self.expand = conv_bn(channels, expanded, 1, activation=nn.Hardswish())
        self.depthwise = conv_bn(expanded, expanded, 3, groups=expanded, activation=nn.Hardswish())
        self.project = conv_bn(expanded, channels, 1)

    def forward(self, x):
        return x + self.project(self.depthwise(self.expand(x)))


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(1, 12, activation=nn.ReLU())
        self.first = Residual(12, 36)
        self.down = conv_bn(12, 24, stride=2, activation=nn.Hardswish())
        self.second = Residual(24, 72)
        self.third = Residual(24, 72)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(24, 10)

    def forward(self, x):
        x = self.third(self.second(self.down(self.first(self.stem(x)))))
        return self.classify(torch.flatten(self.pool(x), 1))


def split():
    """(train x, train y), (test x, test y); x is float32 [n, 1, 8, 8] in 0 … 1."""
    digits = load_digits()
    x = (digits.images / 16.0).astype(np.float32)[:, None]
    y = digits.target.astype(np.int64)
    order = np.random.RandomState(SEED).permutation(len(x))
    x, y = x[order], y[order]
    return (x[:-TEST_SAMPLES], y[:-TEST_SAMPLES]), (x[-TEST_SAMPLES:], y[-TEST_SAMPLES:])


def train(x, y):
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, epochs=EPOCHS, steps_per_epoch=(len(x) + 63) // 64)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(64):
            noisy = x[batch] + 0.1 * torch.randn(len(batch), 1, 8, 8)
            loss = nn.functional.cross_entropy(model(noisy), y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model, path):
    """PRESERVE keeps BatchNormalization apart from Conv: folding it is the service's work."""
    torch.onnx.export(model, torch.zeros(1, 1, 8, 8), path, opset_version=14, input_names=["image"], output_names=["scores"],
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    onnx.checker.check_model(onnx.load(path))


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def pack(path, files):
    """A tar.gz without times and owners."""
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed, \
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def samples(x):
    return [("image/%04d.npy" % i, npy(x[i:i + 1])) for i in range(len(x))]


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    (x, y), (test_x, test_y) = split()
    model = train(x, y)
    with torch.no_grad():
        right = (model(torch.from_numpy(test_x)).argmax(1).numpy() == test_y).mean()
    os.makedirs(DEMO, exist_ok=True)
    export(model, os.path.join(DEMO, "digits.onnx"))
    pack(os.path.join(DEMO, "digits.tar.gz"), samples(x[:CALIBRATION_SAMPLES]))
    pack(os.path.join(DEMO, "eval.tar.gz"), samples(test_x) + [("labels.npy", npy(test_y))])
    print("accuracy %.4f over %d samples, %d parameters" % (right, len(test_x), sum(p.numel() for p in model.parameters())))


main()
