// The operations that JavaScript sees, by file. Each is described in ../binding.ts, with its arguments, result and errors.
#pragma once

#include <napi.h>

namespace fairlead {

// vsock-connect.cc
Napi::Value VsockConnect(const Napi::CallbackInfo& info);
Napi::Value CancelConnect(const Napi::CallbackInfo& info);
// vsock-listen.cc
Napi::Value VsockListen(const Napi::CallbackInfo& info);
Napi::Value VsockPeer(const Napi::CallbackInfo& info);
Napi::Value VsockLocal(const Napi::CallbackInfo& info);
// cid.cc
Napi::Value VsockLocalCid(const Napi::CallbackInfo& info);
Napi::Value ReserveCid(const Napi::CallbackInfo& info);
// fds.cc
Napi::Value Socketpair(const Napi::CallbackInfo& info);
void SwapInto(const Napi::CallbackInfo& info);
void CloseFd(const Napi::CallbackInfo& info);
Napi::Value SendFds(const Napi::CallbackInfo& info);
Napi::Value RecvFds(const Napi::CallbackInfo& info);
// unix-listen.cc
Napi::Value UnixListen(const Napi::CallbackInfo& info);
Napi::Value UnixListenAbstract(const Napi::CallbackInfo& info);
// pidfd.cc
Napi::Value PidfdOpen(const Napi::CallbackInfo& info);
void PidfdSignal(const Napi::CallbackInfo& info);
Napi::Value PidfdWait(const Napi::CallbackInfo& info);
void PidfdClose(const Napi::CallbackInfo& info);
// sockopt.cc
void SetNotsentLowat(const Napi::CallbackInfo& info);
Napi::Value GetNotsent(const Napi::CallbackInfo& info);
// sendable.cc
Napi::Value WaitSendable(const Napi::CallbackInfo& info);
Napi::Value CancelSendable(const Napi::CallbackInfo& info);
// peer-input.cc
Napi::Value LiftPeerInput(const Napi::CallbackInfo& info);
Napi::Value GetUntaken(const Napi::CallbackInfo& info);
// notify.cc
void SdNotify(const Napi::CallbackInfo& info);
// heap.cc
Napi::Value TrimHeap(const Napi::CallbackInfo& info);

}  // namespace fairlead
