// @lowbit/linalg: host linear algebra whose large products run on a backend.
export { cholesky, type CholeskyOptions, type CholeskyResult, inverseUpperFactor, type InverseFactorOptions, type InverseFactorResult } from './cholesky.js';
export { transientCompute, type TransientCompute } from './compute.js';
export { topEigenvectors, type TopEigenvectors, type TopEigenvectorsOptions } from './eigenvectors.js';
export { type HadamardConstruction, hadamardMatrix, type HadamardMatrix } from './hadamard-matrix.js';
export { symmetricEigen, type SymmetricEigen } from './jacobi.js';
export { qr, type QrOptions, type QrResult } from './qr.js';
export { solveSpd, type SpdSolutions, type SpdSystems } from './solve-spd.js';
export { cut, paste, splitPoint } from './submatrix.js';
export { truncatedSvd, type TruncatedSvd, type TruncatedSvdOptions } from './svd.js';
export { solveTriangular, type TriangularOptions } from './triangular.js';
export { type HadamardPlan, type HadamardPlanOptions, planHadamard, walshHadamard, type WalshHadamardOptions } from './walsh-hadamard.js';
