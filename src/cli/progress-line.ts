import { formatBytes, formatDuration, formatRate, type TransferProgress } from '../shared/index.js';

/** `web01 Hard disk 1  copy  41.2 of 67.0 GiB  212.0 MiB/s  about 2 min left`. */
export function progressLine(vm: string, progress: TransferProgress): string {
  const { disk, phase, doneBytes, totalBytes, bytesPerSecond, limitBytesPerSecond: limit, bottleneck } = progress;
  const left = bytesPerSecond > 0 && doneBytes < totalBytes ? (totalBytes - doneBytes) / bytesPerSecond : undefined;
  return [
    `${vm} ${disk}`,
    phase,
    amount(doneBytes, totalBytes),
    formatRate(bytesPerSecond),
    ...(left === undefined ? [] : [`about ${formatDuration(left)} left`]),
    ...(bottleneck === undefined ? [] : [`slowest: ${bottleneck}`]),
    ...(limit === undefined ? [] : [limit === 0 ? 'waits for hours with another limit' : `limit ${formatRate(limit)}`]),
  ].join('  ');
}

/** The unit is said once when both have the same. */
function amount(doneBytes: number, totalBytes: number): string {
  const [done = '', doneUnit] = formatBytes(doneBytes).split(' ');
  const [total = '', totalUnit] = formatBytes(totalBytes).split(' ');
  return doneUnit === totalUnit ? `${done} of ${total} ${totalUnit}` : `${done} ${doneUnit} of ${total} ${totalUnit}`;
}
