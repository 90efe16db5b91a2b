
export { describeBackend, type DescribeBackendOptions, type Float64Oracle } from './describe-backend.js';
