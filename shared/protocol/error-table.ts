/**
 * The one error table: what a failure is called on every surface.
 *
 * `rpc` is the JSON-RPC number: the standard ones for protocol errors (JSON-RPC 2.0 §5.1), positive ones for ours, since the
 * specification reserves −32768…−32000. `http` is the status of a call made by POST, `exit` the command line's exit code
 * (0 ok, 1 failure, 2 usage, 3 not found, 4 conflict, 5 unreachable, 124 timeout, 130 interrupted). `retryable` says that the very
 * same call may succeed later without anybody changing anything.
 *
 * A code, once released, keeps its name, its numbers and its meaning.
 */
export interface ErrorRow {
  readonly rpc: number;
  readonly http: number;
  readonly exit: number;
  readonly retryable: boolean;
  readonly meaning: string;
}

export const ERROR_TABLE = {
  PARSE_ERROR: row(-32700, 400, 1, false, 'the message is no JSON'),
  INVALID_REQUEST: row(-32600, 400, 1, false, 'the message is no JSON-RPC request, or the method cannot be called this way'),
  METHOD_NOT_FOUND: row(-32601, 404, 1, false, 'no such method, or the peer is too old to know it'),
  INVALID_PARAMS: row(-32602, 400, 2, false, 'a parameter is missing, unknown, of the wrong type or out of bounds'),
  INTERNAL: row(-32603, 500, 1, false, 'a fault in Fairlead itself'),

  CANCELLED: row(1000, 499, 130, false, 'the caller cancelled the call'),
  TIMEOUT: row(1001, 504, 124, true, 'the call did not end within its deadline'),
  INTERRUPTED: row(1002, 502, 5, true, 'the line dropped before the answer; whether the call took effect is unknown'),
  HOST_UNREACHABLE: row(1003, 503, 5, true, 'the host has no line to the hub at present'),
  CONNECT_FAILED: row(1004, 502, 5, true, 'a connection could not be made'),

  UNAUTHENTICATED: row(1100, 401, 1, false, 'no credential, or one that is wrong, used up, expired or revoked'),
  PERMISSION_DENIED: row(1101, 403, 1, false, 'the credential does not allow this, or the host policy forbids it'),

  NOT_FOUND: row(1200, 404, 3, false, 'no host, VM, token or file of that name'),
  CONFLICT: row(1201, 409, 4, false, 'something of that name exists already, or the name is ambiguous'),
  WRONG_STATE: row(1202, 409, 4, false, 'the VM is in a state that does not allow this'),
  UNSUPPORTED: row(1203, 501, 1, false, 'this host, machine type or transport cannot do this'),
  LIMIT_EXCEEDED: row(1204, 429, 1, true, 'a configured limit is reached'),
  JOURNAL_FAILED: row(1205, 503, 1, true, 'the host cannot write to or read its journal of commands'),
  OUTCOME_UNKNOWN: row(1206, 409, 1, false, 'the command may have run before, and what became of it cannot be told'),
  RESULT_NOT_KEPT: row(1207, 410, 1, false, 'the command ran before, and its answer was too long to be kept'),
  STORAGE_FAILED: row(
    1208,
    507,
    1,
    true,
    'a file of the host or the hub could not be written or read: its disk is full, or fails',
  ),
  UPDATE_FAILED: row(
    1210,
    502,
    1,
    false,
    'the new release of the agent did not prove itself, and the host runs the one of before',
  ),
  FENCED: row(1209, 409, 4, false, 'the sender has been replaced by another hub, and must stop'),

  PROTOCOL_ERROR: row(1300, 502, 1, false, 'the peer broke the wire protocol'),
  FLOW_CONTROL: row(1301, 502, 1, false, 'the peer sent beyond its credit'),

  QMP_FAILED: row(1400, 502, 1, false, 'QEMU answered a command with an error'),
  PROCESS_FAILED: row(1401, 502, 1, false, 'QEMU or a helper process could not be started, or ended on its own'),
  GUEST_REFUSED: row(1402, 502, 1, true, 'nothing in the guest listens on that port'),
  GUEST_UNREACHABLE: row(1403, 504, 1, true, 'the guest did not answer on its vsock'),
  GUEST_UNRESPONSIVE: row(1405, 504, 1, true, 'the guest did not do what it was asked to, or refused'),
  GUEST_FAILED: row(1406, 502, 1, false, "the guest's agent answered a command with an error"),
  STREAM_RESET: row(1404, 502, 1, false, 'the stream was reset by its other end'),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** SAFETY: `Object.keys` widens to string[]; the table is a frozen literal, so its keys are exactly ErrorCode. */
export const ERROR_CODES: readonly ErrorCode[] = Object.keys(ERROR_TABLE) as ErrorCode[];

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERROR_TABLE, value);
}

/** The code of a JSON-RPC number, or undefined for a number that is not in the table (a newer peer's, say). */
export function errorCodeOfRpc(number: number): ErrorCode | undefined {
  return ERROR_CODES.find((code) => ERROR_TABLE[code].rpc === number);
}

function row(rpc: number, http: number, exit: number, retryable: boolean, meaning: string): ErrorRow {
  return { rpc, http, exit, retryable, meaning };
}
