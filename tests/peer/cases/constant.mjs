// Constant: nothing goes in, so an Identity of an input gives the model one.
import { F, Fs, S, T } from '../onnx.mjs';

const constant = (name, type, attrs, since) => ({
  op: 'Constant', name, since, in: ['f32[1]'],
  graph: () => ({
    nodes: [{ op: 'Constant', in: [], out: ['y0'], attrs }, { op: 'Identity', in: ['x0'], out: ['y1'] }],
    inputs: [{ name: 'x0', type: 'f32', dims: [1] }],
    outputs: [{ name: 'y0', type }, { name: 'y1', type: 'f32' }],
  }),
});

export default [
  ...['f32', 'f16', 'f64', 'i8', 'u8', 'i16', 'u16', 'i32', 'u32', 'i64', 'u64', 'bool'].map((t) => constant(t, t, { value: T(t, [3], [0, 1, 2]) }, 7)),
  constant('scalar', 'f32', { value: T('f32', [], [1.5]) }, 7), constant('empty', 'i64', { value: T('i64', [0], []) }, 7),
  constant('float', 'f32', { value_float: F(2) }, 12), constant('floats', 'f32', { value_floats: Fs(2, 3) }, 12),
  constant('sparse', 'f32', { sparse_value: S('f32', [3, 4], [1.5, -2, 7], [0, 6, 11]) }, 11),
  constant('int', 'i64', { value_int: -3 }, 12), constant('ints', 'i64', { value_ints: [4, 5] }, 12),
];
