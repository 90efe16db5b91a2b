// A recipe that nothing stops but the end of its process.
import { waits } from './waits.js';

export default waits({ isDeaf: true });
