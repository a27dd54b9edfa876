/** The part of `xen-api` 4.7.6 that we use; the package ships no types. */
declare module 'xen-api' {
  export interface ParsedUrl {
    protocol: string;
    hostname: string;
    port?: string;
  }

  export interface XenApiOptions {
    url: string;
    auth: { user: string; password: string };
    watchEvents?: boolean | string[];
    transport?: 'auto' | 'json-rpc' | 'xml-rpc';
    callTimeout?: number;
  }

  export class Xapi {
    constructor(options: XenApiOptions);
    /** What every RPC goes through; replaced to pin the certificate. */
    protected _undiciDispatcher: unknown;
    protected _setUrl(url: ParsedUrl): void;
    /** Every request goes through it, those that renew the session as well. */
    protected _call(method: string, ...rest: unknown[]): Promise<unknown>;
    readonly status: 'connected' | 'connecting' | 'disconnected';
    readonly sessionId: string;
    connect(): Promise<void>;
    disconnect(): Promise<void>;
    call(method: string, ...args: unknown[]): Promise<unknown>;
  }
}
