// The purpose of this target stands in Package.swift.
