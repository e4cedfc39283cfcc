/** Secrets taken out of what is kept or logged, by the name of the field that holds them. */
const SECRET = /token|secret|password|passphrase|credential|private|^(key|stdin|input|inputData|env)$/i;

/** For JSON.stringify: what a field of a secret's name holds is replaced, whatever it is. */
export function redactSecrets(key: string, value: unknown): unknown {
  return SECRET.test(key) ? '[redacted]' : value;
}
