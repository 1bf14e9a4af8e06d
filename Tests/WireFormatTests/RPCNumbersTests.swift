import Testing
import WireFormat

/// The numbers of the RPC layer, written out.
@Suite struct RPCNumbersTests {
    @Test func `opcodes are Lustre's below 2000 and ours from 3000 on`() {
        let numbers: [(Opcode, UInt32, String)] = [
            (.ostConnect, 8, "connect"), (.ostDisconnect, 9, "disconnect"),
            (.mdsConnect, 38, "connect"), (.mdsDisconnect, 39, "disconnect"),
            (.ldlmEnqueue, 101, "enqueue"), (.ldlmConvert, 102, "convert"),
            (.ldlmCancel, 103, "cancel"), (.ldlmBlockingAST, 104, "blocking AST"),
            (.ldlmCompletionAST, 105, "completion AST"), (.ldlmGlimpseAST, 106, "glimpse AST"),
            (.ping, 400, "ping"),
            (.getattr, 3001, "getattr"), (.lookup, 3002, "lookup"), (.setattr, 3003, "setattr"),
            (.mkdir, 3004, "mkdir"), (.open, 3005, "open"), (.close, 3006, "close"),
            (.unlink, 3007, "unlink"), (.rename, 3008, "rename"), (.readdir, 3009, "readdir"),
            (.openReplay, 3010, "open replay"),
            (.objectCreate, 3101, "object create"), (.objectDestroy, 3102, "object destroy"),
            (.objectWrite, 3103, "object write"), (.objectRead, 3104, "object read"),
            (.objectPunch, 3105, "object punch"), (.objectGetattr, 3106, "object getattr"),
            (.upgradeProgress, 3201, "upgrade progress"), (.targetUp, 3202, "target up"),
            (.upgradeStart, 3203, "upgrade start"), (.upgradeStatus, 3204, "upgrade status"),
            (.auditRead, 3205, "audit read"), (.abortRecovery, 3206, "abort recovery"),
            (.upgradeOrder, 3207, "upgrade order"),
            (.upgradeReceipts, 3208, "upgrade receipts"),
            (.locate, 3011, "locate"),
            (.link, 3012, "link"),
            (.ostStatfs, 13, "statfs"),
            (.mdsStatfs, 41, "statfs"),
            (.ostSync, 16, "sync"),
            (.mdsSync, 44, "sync"),
        ]
        for (opcode, number, name) in numbers {
            #expect(opcode.rawValue == number)
            #expect(opcode.name == name)
        }
        #expect(Opcode(rawValue: 77).name == "opcode 77")
    }

    @Test func `pb_version names the family of the opcode`() {
        #expect(Opcode.ostConnect.family == 0x30000)
        #expect(Opcode.mdsDisconnect.family == 0x20000)
        #expect(Opcode.ldlmCancel.family == 0x40000)
        #expect(Opcode.ping.family == 0x10000)
        #expect(Opcode.openReplay.family == 0x20000)
        #expect(Opcode.objectWrite.family == 0x30000)
        #expect(Opcode.upgradeStart.family == 0x10000)
    }

    @Test func `portals are Lustre's`() {
        #expect(ServicePortal.oscReply == 4)
        #expect(ServicePortal.ostBulk == 8)
        #expect(ServicePortal.mdcReply == 10)
        #expect(ServicePortal.mdsRequest == 12)
        #expect(ServicePortal.lockCallbackRequest == 15)
        #expect(ServicePortal.lockCallbackReply == 16)
        #expect(ServicePortal.lockCancelRequest == 17)
        #expect(ServicePortal.lockCancelReply == 18)
        #expect(ServicePortal.ostRequest == 28)
        #expect(TargetKind.mds.requestPortal == 12 && TargetKind.mds.replyPortal == 10)
        #expect(TargetKind.oss.requestPortal == 28 && TargetKind.oss.replyPortal == 4)
        #expect(TargetKind.mds.portal(for: .ldlmCancel) == 17)
        #expect(TargetKind.oss.portal(for: .ldlmConvert) == 17)
        #expect(TargetKind.oss.portal(for: .ldlmEnqueue) == 28)
        #expect(TargetKind.mds.rawValue == 1 && TargetKind.oss.rawValue == 2)
        #expect(TargetKind.mds.connectOpcode == .mdsConnect)
        #expect(TargetKind.oss.disconnectOpcode == .ostDisconnect)
    }

    @Test func `types and flags of the header are Lustre's`() {
        #expect(MessageType.request.rawValue == 4711)
        #expect(MessageType.error.rawValue == 4712)
        #expect(MessageType.reply.rawValue == 4713)
        #expect(MessageFlags.resent.rawValue == 0x2)
        #expect(MessageFlags.replay.rawValue == 0x4)
        #expect(MessageFlags.requestReplayDone.rawValue == 0x40)
        #expect(MessageFlags.lockReplayDone.rawValue == 0x80)
        #expect(ConnectFlags.recovering.rawValue == 0x1)
        #expect(ConnectFlags.reconnect.rawValue == 0x2)
        #expect(ConnectFlags.replayable.rawValue == 0x4)
        #expect(ConnectFlags.initial.rawValue == 0x20)
        #expect(ConnectFlags.nextVersion.rawValue == 0x80)
        #expect(ConnectFlags.transno.rawValue == 0x100)
        #expect(XID.step == 128)
    }

    @Test func `statuses are Linux x86 error numbers, negative`() {
        let all: [(Status, Int32)] = [
            (.ok, 0), (.noEntry, -2), (.ioError, -5), (.badHandle, -9), (.tryAgain, -11),
            (.access, -13), (.busy, -16), (.exists, -17), (.noDevice, -19), (.notDirectory, -20),
            (.isDirectory, -21), (.invalid, -22), (.tooBig, -27), (.noSpace, -28),
            (.nameTooLong, -36), (.notEmpty, -39), (.protocolError, -71), (.overflow, -75),
            (.illegalName, -84), (.notSupported, -95), (.notConnected, -107), (.shutdown, -108),
            (.timedOut, -110), (.hostUnreachable, -113), (.already, -114), (.inProgress, -115),
            (.stale, -116), (.cancelled, -125),
        ]
        for (status, number) in all { #expect(status.rawValue == number) }
        #expect(!Status.ok.isError && Status.noEntry.isError)
        // Codes of the lock manager are above 300 and no errors of the message.
        #expect(!Status(rawValue: 301).isError)
    }

    @Test func `versions, features and the upgrade's words keep their numbers`() {
        #expect(ProtocolVersion.v1.rawValue == 1 && ProtocolVersion.v2.rawValue == 2)
        #expect(ProtocolVersion.supported == .v1 ... .v3)
        #expect(ProtocolVersion.v1.modifyingRequestsMax == 1)
        #expect(ProtocolVersion.v2.modifyingRequestsMax == 8)
        #expect(ProtocolVersion.v3.rawValue == 3 && ProtocolVersion.v3.modifyingRequestsMax == 8)
        #expect(Features.upgrade.rawValue == 1)
        #expect(Features.caching.rawValue == 2 && Features.grants.rawValue == 4)
        #expect(UpgradeScheme.allCases.map(\.rawValue) == [1, 2, 3])
        #expect(DeadlinePolicy.allCases.map(\.rawValue) == [1, 2, 3])
        #expect(CachePolicy.allCases.map(\.rawValue) == [1, 2, 3])
        #expect(UpgradePhase.allCases.map(\.rawValue) == Array(0...11))
        #expect(UpgradeAction.allCases.map(\.rawValue) == [0, 1, 2, 3])
        #expect(ReadPolicy.allCases.map(\.rawValue) == [0, 1])
        #expect(UpgradeReceiptsReply.Kind.allCases.map(\.rawValue) == Array(0...5))
        #expect(Features.readPolicy.rawValue == 0x100 && Features.batchedReplay.rawValue == 0x200)
        #expect(
            [AdmissionState.none, .granted, .revoking, .waiting, .committed].map(\.rawValue)
                == [0, 1, 2, 3, 4])
        #expect(
            [ConnectReply.Mode.fresh, .sameInstance, .recovering, .cleanRecord].map(\.rawValue)
                == [0, 1, 2, 3])
        #expect(FileType.regular.rawValue == 1 && FileType.directory.rawValue == 2)
        #expect(
            [OpenFlags.read, .write, .create, .exclusive].map(\.rawValue) == [1, 2, 4, 8])
        #expect(UpgradeNotice.encodedSize == 56)
        #expect(UpgradeReceipt.encodedSize == 64)
        #expect(CommitNotice.encodedSize == 40)
        #expect(ReplyTrailer.encodedSize == 24)
        #expect(UpgradeEpoch.encodedSize == 16)
        #expect(ConnectRequest.uuidSize == 40)
        #expect(ObjectWriteRequest.inlineMax == 16_384)
        #expect(ObjectWriteRequest.byteCountMax == 1_048_576)
        #expect(ResourceID.admissionMagic == 0x534C_5549_4345_4144)
        #expect(ResourceID.admission(7) == ResourceID(0, 7, 0, 0x534C_5549_4345_4144))
    }

    @Test func `adler32 gives the sums of RFC 1950`() {
        #expect(adler32([]) == 1)
        #expect(adler32(Array("a".utf8)) == 0x0062_0062)
        #expect(adler32(Array("Wikipedia".utf8)) == 0x11E6_0398)
        // Long enough that the sums wrap several times.
        #expect(adler32([UInt8](repeating: 0xFF, count: 20_000)) == adlerByTheBook(20_000))
    }

    private func adlerByTheBook(_ count: Int) -> UInt32 {
        var a = 1
        var b = 0
        for _ in 0..<count {
            a = (a + 255) % 65521
            b = (b + a) % 65521
        }
        return UInt32(b << 16 | a)
    }
}
