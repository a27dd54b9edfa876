import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import { redactError } from '../shared/redaction.js';

/** Whatever an activity throws: Temporal keeps it in the history, so no secret may be left in it (design 10). */
export const redactFailures: ActivityInterceptorsFactory = () => ({
  inbound: {
    async execute(input, next) {
      try {
        return await next(input);
      } catch (error) {
        throw redactError(error);
      }
    },
  },
});
