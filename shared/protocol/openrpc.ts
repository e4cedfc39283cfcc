/**
 * The method table as an OpenRPC 1.3 document (https://spec.open-rpc.org): what `rpc.discover` answers and docs/reference/openrpc.json
 * holds. Schemas of params are what a caller may write (a size may be text), those of results what it gets.
 *
 * Beyond the standard: `x-target`, `x-role`, `x-idempotent`, `x-since`, `x-stream` (called by opening a stream, not by a request),
 * `x-progress` (schema of each `$/progress` value) and `x-params` (the whole params object where it has alternatives, which a list of
 * params cannot say). `x-notifications` are what the sides of a line tell each other without being asked.
 */
import { type JsonSchema, toJsonSchema } from '@valibot/to-json-schema';
import type * as v from 'valibot';
import { Count, HostPath, Labels, Name, Timestamp } from './common.ts';
import { COMMON_ERRORS, type CommonErrors, commonErrorsOf, type MethodContract } from './contract.ts';
import { ERROR_CODES, ERROR_TABLE, type ErrorCode } from './error-table.ts';
import { METHODS } from './methods.ts';
import { HostRecord } from './methods-fleet.ts';
import { HostInfo } from './methods-host.ts';
import { TokenRecord } from './methods-token.ts';
import { NOTIFICATIONS, type NotificationContract } from './notifications.ts';
import { RolloutEvent } from './rollout-events.ts';
import { RolloutSpec } from './rollout-spec.ts';
import { RolloutSummary } from './rollout-status.ts';
import { CONTRACT_VERSION } from './version.ts';
import { VmInfo, VmState } from './vm.ts';
import { VmEvent } from './vm-events.ts';
import { VmSpec } from './vm-spec.ts';

export interface ContentDescriptor {
  readonly name: string;
  readonly required?: boolean;
  readonly schema: JsonSchema;
}

export interface Reference {
  readonly $ref: string;
}

export interface OpenRpcMethod {
  readonly name: string;
  readonly summary: string;
  readonly paramStructure: 'by-name';
  readonly params: readonly ContentDescriptor[];
  readonly result: ContentDescriptor;
  /** Its own; `x-common-errors` names a row of the document's with those that it shares with others. */
  readonly errors: readonly Reference[];
  readonly 'x-common-errors': CommonErrors;
  readonly 'x-target': 'agent' | 'hub';
  readonly 'x-role': string;
  readonly 'x-idempotent': boolean;
  readonly 'x-since': number;
  readonly 'x-stream': boolean;
  readonly 'x-progress'?: JsonSchema;
  readonly 'x-params'?: JsonSchema;
}

export interface OpenRpcNotification {
  readonly name: string;
  readonly summary: string;
  readonly params: JsonSchema;
  readonly 'x-from': 'agent' | 'hub';
  readonly 'x-since': number;
}

export interface OpenRpcError {
  readonly code: number;
  readonly message: string;
  readonly data: { readonly code: ErrorCode; readonly retryable: boolean };
}

/** A type and not an interface, so that it passes as any JSON object where one is asked for. */
export type OpenRpcDocument = {
  readonly openrpc: '1.3.2';
  readonly info: {
    readonly title: string;
    readonly version: string;
    readonly description: string;
    readonly license: { name: string };
  };
  readonly methods: readonly OpenRpcMethod[];
  readonly 'x-notifications': readonly OpenRpcNotification[];
  readonly 'x-common-errors': Readonly<Record<CommonErrors, readonly ErrorCode[]>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, JsonSchema>>;
    readonly errors: Readonly<Record<ErrorCode, OpenRpcError>>;
  };
};

type Mode = 'input' | 'output';

const PRIMITIVES = { Name, Count, HostPath, Labels, Timestamp };
/** Schemas that the document gives a name, by what they describe. */
const NAMED: Readonly<Record<Mode, Readonly<Record<string, v.GenericSchema>>>> = {
  input: { ...PRIMITIVES, VmSpecInput: VmSpec, RolloutSpec },
  output: { ...PRIMITIVES, VmState, VmSpec, VmInfo, VmEvent, HostInfo, HostRecord, TokenRecord, RolloutSummary, RolloutEvent },
};

export function generateOpenRpc(): OpenRpcDocument {
  return {
    openrpc: '1.3.2',
    info: {
      title: 'Fairlead',
      version: String(CONTRACT_VERSION),
      description: 'Methods of the hub, and of the agents as operators call them through the hub.',
      license: { name: 'MIT' },
    },
    methods: Object.entries(METHODS).map(([name, contract]) => describeMethod(name, contract)),
    'x-notifications': Object.entries(NOTIFICATIONS).map(([name, contract]) => describeNotification(name, contract)),
    'x-common-errors': COMMON_ERRORS,
    components: {
      schemas: { ...namedSchemas('input'), ...namedSchemas('output') },
      errors: describeErrors(),
    },
  };
}

function describeMethod(name: string, contract: MethodContract): OpenRpcMethod {
  const params = schemaOf(contract.params, 'input');
  const alternatives = alternativesOf(params);
  return {
    name,
    summary: contract.summary,
    paramStructure: 'by-name',
    params: [...describeParams(alternatives), ...(contract.target === 'agent' ? [HOST_PARAM] : [])],
    result: { name: 'result', schema: schemaOf(contract.result, 'output') },
    errors: contract.errors.map((code) => ({ $ref: `#/components/errors/${code}` })),
    'x-common-errors': commonErrorsOf(contract),
    'x-target': contract.target,
    'x-role': contract.role,
    'x-idempotent': contract.idempotent,
    'x-since': contract.since,
    'x-stream': contract.kind === 'stream',
    ...(contract.progress === undefined ? {} : { 'x-progress': schemaOf(contract.progress, 'output') }),
    ...(alternatives.length > 1 ? { 'x-params': params } : {}),
  };
}

function describeNotification(name: string, { from, since, summary, params }: NotificationContract): OpenRpcNotification {
  return { name, summary, params: schemaOf(params, 'output'), 'x-from': from, 'x-since': since };
}

const HOST_PARAM: ContentDescriptor = {
  name: 'host',
  required: false,
  schema: {
    $ref: '#/components/schemas/Name',
    description: 'the host; without it the hub finds it by the VM or takes the only one',
  },
};

/** One descriptor a field; one that differs between alternatives has each form, and is required when it is in all of them. */
function describeParams(alternatives: readonly JsonSchema[]): ContentDescriptor[] {
  const names = new Set(alternatives.flatMap((schema) => Object.keys(schema.properties ?? {})));
  return [...names].map((name) => {
    const forms = alternatives.map((schema) => schema.properties?.[name]).filter((form) => form !== undefined);
    const distinct = [...new Map(forms.map((form) => [JSON.stringify(form), form])).values()];
    const [first] = distinct;
    return {
      name,
      required: alternatives.every((schema) => schema.required?.includes(name) === true),
      schema: distinct.length === 1 && typeof first === 'object' ? first : { anyOf: distinct },
    };
  });
}

function alternativesOf(params: JsonSchema): readonly JsonSchema[] {
  return (params.anyOf ?? params.oneOf ?? [params]).filter((schema) => typeof schema === 'object');
}

function schemaOf(schema: v.GenericSchema, mode: Mode): JsonSchema {
  return convert(schema, mode, NAMED[mode]);
}

function namedSchemas(mode: Mode): Record<string, JsonSchema> {
  const rows = Object.entries(NAMED[mode]).map(([name, schema]) => {
    const { [name]: _itself, ...others } = NAMED[mode];
    return [name, convert(schema, mode, others)] as const;
  });
  return Object.fromEntries(rows);
}

/** Throws for a schema or rule that JSON Schema cannot say (the converter's default), so that none is left out unnoticed. */
function convert(schema: v.GenericSchema, mode: Mode, named: Readonly<Record<string, v.GenericSchema>>): JsonSchema {
  const {
    $schema: _dialect,
    $defs: _named,
    ...rest
  } = toJsonSchema(schema, {
    typeMode: mode,
    target: 'draft-07',
    definitions: named,
    overrideRef: ({ referenceId }) => `#/components/schemas/${referenceId}`,
  });
  return mode === 'output' ? openEnded(rest) : rest;
}

/** Results may gain fields with each version, so a caller must not refuse unknown ones; the schema must not say that there are none. */
function openEnded(schema: JsonSchema): JsonSchema {
  return JSON.parse(JSON.stringify(schema), (key, value: unknown) =>
    key === 'additionalProperties' && value === false ? undefined : value,
  );
}

function describeErrors(): Record<ErrorCode, OpenRpcError> {
  const rows = ERROR_CODES.map((code) => {
    const { rpc, meaning, retryable } = ERROR_TABLE[code];
    return [code, { code: rpc, message: meaning, data: { code, retryable } }] as const;
  });
  // SAFETY: one entry for each of ERROR_CODES, which are all the codes; fromEntries forgets the keys.
  return Object.fromEntries(rows) as Record<ErrorCode, OpenRpcError>;
}
