/** Functions whose first parameter is already given. */
export type BoundSteps<C, S> = {
  [N in keyof S]: S[N] extends (context: C, ...args: infer A) => infer R ? (...args: A) => R : never;
};

/** Gives every function of a table its first parameter, such as the session with one server. */
export function bindSteps<C, S extends object>(context: C, steps: S): BoundSteps<C, S> {
  const bound = Object.entries(steps).map(([name, step]) => [
    name,
    (...args: unknown[]) => (step as (context: C, ...rest: unknown[]) => unknown)(context, ...args),
  ]);
  return Object.fromEntries(bound) as BoundSteps<C, S>;
}
