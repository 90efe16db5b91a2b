// @lowbit/linalg: host linear algebra whose large products run on a backend.
export {
  type CholeskyOptions,
  type CholeskyResult,
  cholesky,
  type InverseFactorOptions,
  type InverseFactorResult,
  inverseUpperFactor,
} from './cholesky.js';
export { type TransientCompute, transientCompute } from './compute.js';
export { type TopEigenvectors, type TopEigenvectorsOptions, topEigenvectors } from './eigenvectors.js';
export { type HadamardConstruction, type HadamardMatrix, hadamardMatrix } from './hadamard-matrix.js';
export { type SymmetricEigen, symmetricEigen } from './jacobi.js';
export { type QrOptions, type QrResult, qr } from './qr.js';
export {
  type QuadraticForm,
  type QuadraticFormOptions,
  quadraticForm,
  quadraticFormGraph,
  rowQuadraticForms,
} from './quadratic-form.js';
export { type SpdSolutions, type SpdSystems, solveSpd } from './solve-spd.js';
export { cut, paste, splitPoint } from './submatrix.js';
export { type TruncatedSvd, type TruncatedSvdOptions, truncatedSvd } from './svd.js';
export { solveTriangular, type TriangularOptions } from './triangular.js';
export {
  type HadamardAxisOptions,
  type HadamardPlan,
  type HadamardPlanOptions,
  type HadamardTransform,
  hadamardTransform,
  planHadamard,
  type WalshHadamardOptions,
  walshHadamard,
} from './walsh-hadamard.js';
