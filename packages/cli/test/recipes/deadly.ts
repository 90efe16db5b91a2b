// A recipe that no process survives which runs cells for another one.
import { rtn } from '@lowbit/rtn';

if (process.argv[1].includes('cell-process')) process.kill(process.pid, 'SIGKILL');

export default rtn({ groupSize: 16 });
