/** Stands before the logins at one endpoint: every wrong one brings the account nearer to being locked, and many flood the server. */
export interface LoginGuard {
  /**
   * Waits until one more login fits into the minute, of all that this process does there.
   *
   * @param signal Ends the wait.
   * @throws AuthenticationFailed when this very login was refused before, by whatever process of this machine.
   */
  check(signal?: AbortSignal): Promise<void>;
  /** This login was refused just now. */
  refused(): Promise<void>;
}
