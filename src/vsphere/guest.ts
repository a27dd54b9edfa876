import type { ToolsState } from './types.js';

/** What a VM says about its Tools. Old servers leave the version out; then running Tools are installed ones. */
export function toolsState(properties: Record<string, unknown>): ToolsState {
  const versionStatus = String(properties['guest.toolsVersionStatus2'] ?? '');
  const runningStatus = properties['guest.toolsRunningStatus'];
  const running = runningStatus === 'guestToolsRunning' || runningStatus === 'guestToolsExecutingScripts';
  const installType = properties['guest.toolsInstallType'];
  return {
    installed: running || (versionStatus !== '' && versionStatus !== 'guestToolsNotInstalled'),
    running,
    versionStatus,
    ...(typeof installType === 'string' ? { installType } : {}),
  };
}

/** Windows by what the VM is configured as, or by what the guest itself says. */
export function isWindows(properties: Record<string, unknown>): boolean {
  const guestId = String(properties['config.guestId'] ?? '');
  return /^win/i.test(guestId) || properties['guest.guestFamily'] === 'windowsGuest';
}

/** Addresses of the guest without the link-local ones. */
export function guestIps(properties: Record<string, unknown>): string[] {
  const nics = (properties['guest.net'] ?? []) as { ipAddress: string[] }[];
  const all = nics
    .flatMap(({ ipAddress }) => ipAddress)
    .filter((ip) => !/^fe80:/i.test(ip) && !ip.startsWith('169.254.'));
  return [...new Set(all)];
}
