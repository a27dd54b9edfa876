/** What one PUT did to a VDI, chunk by chunk. */
export interface ImportRecord {
  id: number;
  vdiUuid: string;
  taskRef: string;
  hostRef: string;
  mode: 'chunked' | 'raw';
  startedAt: string;
  finishedAt?: string;
  /** Body bytes taken from the socket, headers of chunks included. */
  bodyBytes: number;
  /** Bytes written to the VDI's file. */
  writtenBytes: number;
  /** Announced ranges in the order of their headers. */
  chunks: { offset: number; length: number }[];
  /** `success`, or why the receiver gave up; the words of no real log. */
  outcome?: string;
}

/** All PUTs since the start of the process. */
export class ImportLog {
  readonly records: ImportRecord[] = [];

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
    return record;
  }
}
