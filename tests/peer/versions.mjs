// The opset versions in which each operator of ai.onnx changed, as far as opset 23. Versions
// before 7 stand for "as in opset 7".
const list = (text) => Object.fromEntries(text.trim().split('\n').flatMap((line) => {
  const [names, versions] = line.split(':');
  return names.trim().split(/\s+/).map((name) => [name, versions.trim().split(/\s+/).map(Number)]);
}));

export const VERSIONS = list(`
Abs Ceil Exp Floor Log Neg Reciprocal Sigmoid Sqrt Tanh Tile: 6 13
Sign Erf NonZero: 9 13
Acos Asin Atan Cos Sin Tan: 7 22
Acosh Asinh Atanh Cosh Sinh: 9 22
Add Sub Mul Div: 7 13 14
Relu: 6 13 14
And Or Xor Not: 7
ArgMax ArgMin: 1 11 12 13
Attention RMSNormalization RotaryEmbedding: 23
AffineGrid Gelu: 20
AveragePool: 7 10 11 19 22
BatchNormalization: 7 9 14 15
BitShift Range Unique DynamicQuantizeLinear: 11
BitwiseAnd BitwiseOr BitwiseXor BitwiseNot CenterCropPad Col2Im: 18
BlackmanWindow HammingWindow HannWindow LayerNormalization MelWeightMatrix STFT: 17
Cast: 6 9 13 19 21 23
CastLike: 15 19 21 23
Celu Einsum: 12
Clip: 6 11 12 13
Compress OneHot: 9 11
Concat: 4 11 13
Constant: 1 9 11 12 13 19 21 23
ConstantOfShape: 9 20 21 23
Conv ConvTranspose: 1 11 22
ConvInteger MatMulInteger QLinearConv Shrink ReverseSequence: 10
QLinearMatMul: 10 21
CumSum: 11 14
DFT: 17 20
DeformConv: 19 22
DepthToSpace: 1 11 13
SpaceToDepth: 1 13
QuantizeLinear DequantizeLinear: 10 13 19 21 23
Det: 11 22
Dropout: 7 10 12 13 22
Elu HardSigmoid Selu InstanceNormalization: 6 22
Equal: 7 11 13 19
Expand: 8 13
EyeLike: 9 22
Flatten: 1 9 11 13 21 23
GRU LSTM RNN: 7 14 22
Gather: 1 11 13
GatherElements: 11 13
GatherND: 11 12 13
Gemm: 7 9 11 13
GlobalAveragePool GlobalMaxPool LpNormalization MaxRoiPool Softplus Softsign: 1 22
GlobalLpPool: 2 22
Greater Less: 7 9 13
GreaterOrEqual LessOrEqual: 12 16
GridSample: 16 20 22
GroupNormalization: 18 21
HardSwish: 14 22
Hardmax Softmax LogSoftmax: 1 11 13
Identity: 1 13 14 16 19 21 23
If Loop: 1 11 13 16 19 21 23
Scan: 8 9 11 16 19 21 23
IsInf: 10 20
IsNaN: 9 13 20
LRN: 1 13
LeakyRelu: 6 16
LpPool: 2 11 18 22
MatMul: 1 9 13
Max Min: 6 8 12 13
MaxPool: 1 8 10 11 12 22
MaxUnpool: 9 11 22
Mean Sum: 6 8 13
MeanVarianceNormalization: 9 13
Mish: 18 22
Mod: 10 13
NegativeLogLikelihoodLoss: 12 13 22
SoftmaxCrossEntropyLoss: 12 13
NonMaxSuppression: 10 11
PRelu: 7 9 16
Pad: 2 11 13 18 19 21 23
Pow: 7 12 13 15
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean ReduceProd ReduceSumSquare: 1 11 13 18
ReduceSum: 1 11 13
ReduceMax ReduceMin: 1 11 12 13 18 20
Reshape: 5 13 14 19 21 23
Resize: 10 11 13 18 19
RoiAlign: 10 16 22
Round: 11 22
Scatter: 9
ScatterElements ScatterND: 11 13 16 18
Shape: 1 13 15 19 21 23
Size: 1 13 19 21 23
Slice: 1 10 11 13
Split: 2 11 13 18
Squeeze Unsqueeze: 1 11 13 21 23
ThresholdedRelu: 10 22
TopK: 1 10 11
Transpose: 1 13 21 23
Trilu: 14
Upsample: 7 9
Where: 9 16
`);
