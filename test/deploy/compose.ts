import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { cachePath } from '../../lab/cache.js';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A service as the loader gives it: defaults and variables filled in, paths absolute. */
export interface Service {
  image: string;
  command?: string[] | null;
  entrypoint?: string[] | null;
  environment?: Record<string, string | null>;
  volumes?: {
    type: string;
    source: string;
    target: string;
    read_only?: boolean;
    bind?: { create_host_path?: boolean };
  }[];
  secrets?: { source: string; target: string }[];
  ports?: { host_ip?: string; target: number; published: string }[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
  restart?: string;
  stop_grace_period?: string;
  user?: string;
  hostname?: string;
  read_only?: boolean;
  cap_drop?: string[];
  security_opt?: string[];
  logging?: { options?: Record<string, string> };
}

export interface Compose {
  services: Record<string, Service>;
  secrets: Record<string, { file: string }>;
  volumes: Record<string, unknown>;
}

/**
 * A compose file as the compose specification's own loader understands it.
 *
 * @throws ExecaError with the loader's reason on stderr when it is refused.
 */
export async function loadCompose(
  file = `${ROOT}/docker-compose.yml`,
  env: Record<string, string> = {},
): Promise<Compose> {
  // Nothing of this shell's reaches the file but what a test gives.
  const { stdout } = await execa(cachePath('bin', 'compose-check'), [file], { env, extendEnv: false });
  return JSON.parse(stdout) as Compose;
}
