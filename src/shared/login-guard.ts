/** Keeps a password that was refused from being tried again: every attempt brings the account nearer to being locked. */
export interface LoginGuard {
  /** @throws AuthenticationFailed when this very login was refused before, by whatever process of this machine. */
  check(): Promise<void>;
  /** This login was refused just now. */
  refused(): Promise<void>;
}
