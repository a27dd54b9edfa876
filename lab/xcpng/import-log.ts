import { openSync, readFileSync, writeSync } from 'node:fs';

/** What one PUT did to a VDI, chunk by chunk. */
export interface ImportRecord {
  id: number;
  vdiUuid: string;
  taskRef: string;
  hostRef: string;
  mode: 'chunked' | 'raw';
  startedAt: string;
  finishedAt?: string;
  /** Body bytes taken from the socket, headers of chunks included; not known of a PUT that a crash ended. */
  bodyBytes: number;
  /** Bytes written to the VDI's file. */
  writtenBytes: number;
  /** Announced ranges in the order of their headers. */
  chunks: { offset: number; length: number }[];
  /** When bytes first and last went into the VDI's file. */
  firstWriteAt?: string;
  lastWriteAt?: string;
  /** `success`, or why the receiver gave up; the words of no real log. `crash`: the process ended under it. */
  outcome?: string;
}

/** All PUTs since the pool was made. Each step is in a file at once, so that the crash of the process forgets none. */
export class ImportLog {
  readonly records: ImportRecord[];
  readonly #file: number;

  constructor(path: string) {
    this.records = read(path);
    this.#file = openSync(path, 'a', 0o600);
  }

  begin(fields: Pick<ImportRecord, 'vdiUuid' | 'taskRef' | 'hostRef' | 'mode'>): ImportRecord {
    const record: ImportRecord = {
      id: this.records.length + 1,
      ...fields,
      startedAt: new Date().toISOString(),
      bodyBytes: 0,
      writtenBytes: 0,
      chunks: [],
    };
    this.records.push(record);
    this.#keep(record);
    return record;
  }

  announced(record: ImportRecord, chunk: { offset: number; length: number }): void {
    record.chunks.push(chunk);
    this.#keep({ id: record.id, chunk });
  }

  wrote(record: ImportRecord, bytes: number): void {
    record.lastWriteAt = new Date().toISOString();
    record.firstWriteAt ??= record.lastWriteAt;
    record.writtenBytes += bytes;
    const { id, firstWriteAt, lastWriteAt, writtenBytes } = record;
    this.#keep({ id, firstWriteAt, lastWriteAt, writtenBytes });
  }

  end(record: ImportRecord): void {
    record.finishedAt = new Date().toISOString();
    const { chunks: _kept, ...rest } = record;
    this.#keep(rest);
  }

  #keep(step: Step): void {
    writeSync(this.#file, `${JSON.stringify(step)}\n`);
  }
}

type Step = Partial<ImportRecord> & { id: number; chunk?: { offset: number; length: number } };

function read(path: string): ImportRecord[] {
  const records = new Map<number, ImportRecord>();
  for (const line of readIfThere(path).split('\n').filter(Boolean)) {
    const { chunk, ...changes } = JSON.parse(line) as Step;
    const record = records.get(changes.id) ?? (changes as ImportRecord);
    Object.assign(record, changes);
    if (chunk !== undefined) record.chunks.push(chunk);
    records.set(record.id, record);
  }
  for (const record of records.values()) record.outcome ??= 'crash';
  return [...records.values()];
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
