import type { Paused } from '../shared/index.js';

/** `by olga since 2026-11-24T03:09:02Z: the SAN is slow`. */
export const pausedBy = ({ operator, at, reason }: Paused): string =>
  `by ${operator} since ${at}${reason ? `: ${reason}` : ''}`;
