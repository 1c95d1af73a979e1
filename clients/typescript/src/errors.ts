/** What can go wrong, told from what the transport threw. */

import { Code, ConnectError } from "@connectrpc/connect";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.ts";

/** What is known of an error beside its sentence. */
export interface ErrorDetails {
  readonly reason?: string;
  readonly fields?: Readonly<Record<string, string>>;
  readonly retryAfter?: number | undefined;
  readonly cause?: unknown;
}

/**
 * A call failed.
 *
 * A reply that *fails* is no error: it is a message in the state FAILED whose `error` says why.
 */
export class ColloquyError extends Error {
  override readonly name: string = "ColloquyError";
  /** The status. */
  readonly code: Code;
  /** The name of an ErrorReason, as "CONVERSATION_NOT_FOUND"; empty when the server gave none. */
  readonly reason: string;
  /** What is wrong with each bad field of the request. */
  readonly fields: Readonly<Record<string, string>>;
  /** How many seconds to wait before trying again; undefined when the server does not say. */
  readonly retryAfter: number | undefined;

  /** Makes an error; `message` is a sentence for people. */
  constructor(message: string, code: Code, details: ErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.code = code;
    this.reason = details.reason ?? "";
    this.fields = details.fields ?? {};
    this.retryAfter = details.retryAfter;
  }

  /** Whether the same call may succeed a little later: the server cannot be reached, or went. */
  get transient(): boolean {
    return this.code === Code.Unavailable;
  }
}

/** Text of a reply is missing between what is held and the piece that came. */
export class OutOfOrder extends ColloquyError {
  override readonly name = "OutOfOrder";

  /** Makes an error; `message` says what is missing. */
  constructor(message: string) {
    super(message, Code.DataLoss);
  }
}

/** Returns the error for whatever a call threw. */
export function toColloquyError(thrown: unknown): ColloquyError {
  if (thrown instanceof ColloquyError) return thrown;
  const error = ConnectError.from(thrown);
  const message = error.rawMessage || `the call ended with ${Code[error.code]}`;
  const [info] = error.findDetails(ErrorInfoSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  const fields: Record<string, string> = {};
  for (const { fieldViolations } of error.findDetails(BadRequestSchema)) {
    for (const { field, description } of fieldViolations) fields[field] ??= description;
  }
  const delay = retry?.retryDelay;
  return new ColloquyError(message, codeOf(error), {
    reason: info?.reason ?? "",
    fields,
    retryAfter: delay && Number(delay.seconds) + delay.nanos / 1e9,
    cause: thrown,
  });
}

/**
 * Returns the status of an error. What was thrown by no server, as by fetch when there is no
 * network, or by a stream that breaks off, comes as Unknown with a cause; and a proxy that closes a
 * stream says Canceled. Our own cancels never come this way.
 */
function codeOf(error: ConnectError): Code {
  const broke = error.code === Code.Unknown && error.cause !== undefined;
  return broke || error.code === Code.Canceled ? Code.Unavailable : error.code;
}
