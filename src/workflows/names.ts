/** Snapshot names are the guide's to the letter (R6); the last is ours. */
export const BASELINE = 'vm starting point';
export const CLEAN = 'vm without tools';
export const FINAL = 'vm powered off for cutover';
export const SOURCE_SNAPSHOTS = [BASELINE, CLEAN, FINAL];

export const AFTER_PARTIAL = 'after partial import from V2V';
export const COMPLETE = 'complete import from V2V';
