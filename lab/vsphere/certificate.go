package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"
)

type certificate struct{ tls.Certificate }

// keptCertificate reads the certificate of a state folder, or makes it once:
// a pin that somebody noted must hold after a restart.
func keptCertificate(file string) (certificate, error) {
	if _, err := os.Stat(file); os.IsNotExist(err) {
		text, err := selfSigned()
		if err != nil {
			return certificate{}, err
		}
		if err := replaceFile(file, text); err != nil {
			return certificate{}, err
		}
	}
	pair, err := tls.LoadX509KeyPair(file, file)
	return certificate{pair}, err
}

// selfSigned makes a key and a certificate for this machine's loopback, in PEM.
func selfSigned() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "lab-vsphere"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}

// sha1 is the thumbprint in the spelling VDDK wants: AA:BB:...
func (c certificate) sha1() string {
	sum := sha1.Sum(c.Certificate.Certificate[0])
	return colons(sum[:])
}

// sha256 is the fingerprint in the same spelling.
func (c certificate) sha256() string {
	sum := sha256.Sum256(c.Certificate.Certificate[0])
	return colons(sum[:])
}

func colons(sum []byte) string { return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":") }
