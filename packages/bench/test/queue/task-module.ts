// Run as a process: does test tasks.
import { serveTasks } from '../../src/queue/serve.js';
import { doWork } from './tasks.js';

serveTasks({ run: doWork });
