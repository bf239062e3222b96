"""Small networks: modules, layers, initial values, weight normalization of layers, losses."""

from ..ops.loss import cross_entropy, mse
from . import init
from .batch_norm import BatchNorm1d, MeanOnlyBatchNorm1d
from .data_init import data_init
from .layers import GELU, Dropout, LeakyReLU, Linear, ReLU, Sequential, Sigmoid, Tanh
from .lengths import parameter_groups, retract, squared_norm
from .module import Module
from .weight_norm import WeightNorm, effective, fold_weight_norm, weight_norm

__all__ = [
    "GELU",
    "BatchNorm1d",
    "Dropout",
    "LeakyReLU",
    "Linear",
    "MeanOnlyBatchNorm1d",
    "Module",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "WeightNorm",
    "cross_entropy",
    "data_init",
    "effective",
    "fold_weight_norm",
    "init",
    "mse",
    "parameter_groups",
    "retract",
    "squared_norm",
    "weight_norm",
]
