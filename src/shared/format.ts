import type { DiskState } from './passes.js';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** Bytes for people: `67.0 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(1)} ${UNITS[unit]}`;
}

/** A rate for people: `212.0 MiB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** Seconds for people: `42 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return pair(whole, 60, 'min', 's');
  if (whole < 86_400) return pair(Math.floor(whole / 60), 60, 'h', 'min');
  return pair(Math.floor(whole / 3600), 24, 'd', 'h');
}

/** A number of things for people: `1 warning`, `2 warnings`. */
export function counted(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`;
}

function pair(smaller: number, per: number, bigUnit: string, smallUnit: string): string {
  const rest = smaller % per;
  return `${Math.floor(smaller / per)} ${bigUnit}${rest === 0 ? '' : ` ${rest} ${smallUnit}`}`;
}

/** Where a disk's deltas come from, for people: `deltas by compare (why not by change tracking)`. */
export function deltaWords({ deltaBy, untracked }: Pick<DiskState, 'deltaBy' | 'untracked'>): string {
  return `deltas by ${deltaBy ?? 'a method not chosen yet'}${untracked === undefined ? '' : ` (${untracked})`}`;
}
