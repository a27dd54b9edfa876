import { failure, type FailureType } from '../shared/errors.js';
import { typeAttributeOf } from './normalise.js';

/** A fault of the server, before it is known what it means for the caller. Never leaves this folder. */
export class VimFault extends Error {
  /** The server's type name, such as `TaskInProgress`: the stable part; texts differ between versions. */
  readonly type: string;
  /** Fields of the fault that are plain text, such as `privilegeId` or `invalidProperty`. */
  readonly fields: Record<string, string>;

  constructor(type: string, message: string, fields: Record<string, string> = {}) {
    super(message);
    this.name = 'VimFault';
    this.type = type;
    this.fields = fields;
  }
}

/** The fault inside an error of npm `soap`, or undefined when the call failed otherwise. */
export function faultOf(error: unknown): VimFault | undefined {
  const fault = (error as { root?: { Envelope?: { Body?: { Fault?: RawFault } } } }).root?.Envelope?.Body?.Fault;
  if (!fault) return undefined;
  const [element, detail] = Object.entries(fault.detail ?? {}).find(([name]) => name !== 'attributes') ?? [];
  const type = typeAttributeOf(detail) ?? element?.replace(/Fault$/, '') ?? 'RuntimeFault';
  return new VimFault(type, plainText(fault.faultstring), textFields(detail));
}

/** The fault of a task or of a property that could not be read, as the normaliser left it. */
export function faultFromLocalized(value: unknown): VimFault {
  const { fault, localizedMessage } = (value ?? {}) as { fault?: Record<string, unknown>; localizedMessage?: string };
  return new VimFault(String(fault?.['$type'] ?? 'RuntimeFault'), localizedMessage ?? '', textFields(fault));
}

interface RawFault {
  faultstring?: unknown;
  detail?: Record<string, unknown>;
}

function plainText(value: unknown): string {
  if (typeof value === 'object' && value !== null) return String((value as { $value?: unknown }).$value ?? '');
  return String(value ?? '');
}

function textFields(value: unknown): Record<string, string> {
  if (typeof value !== 'object' || value === null) return {};
  const texts = Object.entries(value).filter(([key, text]) => key !== '$type' && typeof text === 'string');
  return Object.fromEntries(texts) as Record<string, string>;
}

/** What each fault means for the caller. The rest is SourceTaskFailed. */
const MEANING: Record<string, { type: FailureType; next: string }> = {
  NotAuthenticated: { type: 'AuthenticationFailed', next: 'check that the account may keep a session.' },
  ManagedObjectNotFound: { type: 'SourceNotFound', next: 'look whether it was removed or registered anew.' },
  NotFound: { type: 'SourceNotFound', next: 'look whether it was removed.' },
  NoPermission: { type: 'SourceRefused', next: 'give the account this right (docs/privileges.md).' },
  RestrictedVersion: { type: 'SourceRefused', next: 'use a licence with write access: free ESXi refuses changes.' },
  NotSupported: { type: 'SourceRefused', next: 'look at the VM in the vSphere client.' },
  InvalidState: { type: 'SourceRefused', next: 'look at the VM in the vSphere client.' },
  InvalidPowerState: { type: 'SourceRefused', next: 'look at the power state of the VM.' },
  MethodDisabled: { type: 'SourceRefused', next: 'wait for the product that holds the VM, or clear its lock.' },
  NoDiskSpace: { type: 'SourceRefused', next: 'free space on the datastore.' },
  ToolsUnavailable: { type: 'ToolsUnavailable', next: 'shut the guest down by another way.' },
  TaskInProgress: { type: 'SourceBusy', next: 'wait for the other task on this VM.' },
  FileLocked: { type: 'SourceBusy', next: 'close what holds the disk: a backup proxy or a running copy.' },
  ConcurrentAccess: { type: 'SourceBusy', next: 'nothing: the change is tried again.' },
  VimSessionBusy: { type: 'SourceBusy', next: 'nothing: the call is tried again.' },
};

/**
 * The failure a caller gets for a fault.
 *
 * @param what What was being done, such as `Removing snapshot snapshot-7 failed.`
 */
export function failureFromFault(what: string, fault: VimFault): Error {
  const meaning = MEANING[fault.type];
  const extra = Object.entries(fault.fields).map(([name, value]) => `${name} ${value}`);
  const text = fault.message ? `: ${fault.message.trim().replace(/\.$/, '')}` : '';
  const why = `${[fault.type, ...extra].join(', ')}${text}.`;
  return failure(
    meaning?.type ?? 'SourceTaskFailed',
    { what, why: `The server says ${why}`, next: meaning?.next ?? 'see the task in the vSphere client.' },
    { fault: fault.type, ...fault.fields },
  );
}
