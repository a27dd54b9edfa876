/**
 * A fault to happen `times` times (default 1), to imports unless said otherwise. `vdi` (a uuid) limits it to that VDI.
 *
 * A `call` is slow by `seconds`, fails with `code`, or, `lost`, is done but the connection breaks before the answer; with
 * `about` only one that has each of these words in its arguments, or in the objects they refer to.
 */
export type Fault = { vdi?: string; times?: number } & (
  | { kind: 'cut'; afterBytes: number; mode?: 'fin' | 'rst' }
  | { kind: 'stall'; afterBytes: number; seconds: number }
  | { kind: 'enospc'; offset: number }
  | { kind: 'slow'; writeMs: number }
  | { kind: 'attach'; code?: string }
  | { kind: 'detachLag'; ms: number }
  | { kind: 'vanishTask' }
  /** This byte is written as another one, when an import writes there. */
  | { kind: 'corruptImport'; offset: number }
  | { kind: 'corruptExport'; offset: number }
  | {
      kind: 'call';
      method: string;
      about?: string[];
      code?: string;
      params?: string[];
      seconds?: number;
      lost?: boolean;
    }
);

export type FaultKind = Fault['kind'];
type FaultOf<K extends FaultKind> = Extract<Fault, { kind: K }>;

/** Armed faults, oldest first. */
export class Faults {
  armed: Fault[] = [];

  arm(fault: Fault): void {
    this.armed.push({ times: 1, ...fault });
  }

  /** Uses up one occurrence of the oldest fault of that kind that fits. */
  take<K extends FaultKind>(kind: K, fits: (fault: FaultOf<K>) => boolean = () => true): FaultOf<K> | undefined {
    const found = this.armed.find((fault) => fault.kind === kind && fits(fault as FaultOf<K>)) as
      FaultOf<K> | undefined;
    if (found === undefined) return undefined;
    found.times = (found.times ?? 1) - 1;
    if (found.times <= 0) this.armed = this.armed.filter((fault) => fault !== found);
    return found;
  }

  /** As `take`, for a fault that concerns a VDI. */
  takeFor<K extends FaultKind>(kind: K, vdiUuid: string): FaultOf<K> | undefined {
    return this.take(kind, (fault) => fault.vdi === undefined || fault.vdi === vdiUuid);
  }
}
