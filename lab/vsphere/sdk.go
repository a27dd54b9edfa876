package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"log"
	"net/http"
)

// serveSDK lets only requests through to the simulator that a vCenter would
// have parsed.
func (l *Lab) serveSDK(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	method, err := checkRequest(text)
	if err != nil {
		log.Printf("refused: %v", err)
		l.record(method+" refused", err.Error())
		refuse(w, err.Error())
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	if method == "Fetch" {
		w = &fetchWriter{w}
	}
	if l.loses(method, string(text)) {
		l.model.Service.ServeSDK(unheard{}, r)
		panic(http.ErrAbortHandler) // closes the connection, without a word
	}
	l.model.Service.ServeSDK(w, r)
}

// unheard is where an answer goes that nobody shall hear.
type unheard struct{}

func (unheard) Header() http.Header            { return http.Header{} }
func (unheard) Write(text []byte) (int, error) { return len(text), nil }
func (unheard) WriteHeader(int)                {}

func refuse(w http.ResponseWriter, reason string) {
	var text bytes.Buffer
	_ = xml.EscapeText(&text, []byte(reason))
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = io.WriteString(w, xml.Header+`<soapenv:Envelope xmlns:soapenv="`+soapEnvelope+`" xmlns:xsi="`+xsiNamespace+`"><soapenv:Body><soapenv:Fault>`+
		`<faultcode>ServerFaultCode</faultcode><faultstring>`+text.String()+`</faultstring>`+
		`<detail><InvalidRequestFault xmlns="`+vimNamespace+`" xsi:type="InvalidRequest"/></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`)
}

// fetchWriter sets right what govmomi 0.56 answers to Fetch of a property that
// is not set: the response of another method, which pyVmomi cannot read.
type fetchWriter struct{ http.ResponseWriter }

func (w *fetchWriter) Write(text []byte) (int, error) {
	const wrong, end = "<RetrievePropertiesExResponse", "</RetrievePropertiesExResponse>"
	from, to := bytes.Index(text, []byte(wrong)), bytes.Index(text, []byte(end))
	if from < 0 || to < 0 {
		return w.ResponseWriter.Write(text)
	}
	fixed := append(bytes.Clone(text[:from]), `<FetchResponse xmlns="urn:vim25"></FetchResponse>`...)
	_, err := w.ResponseWriter.Write(append(fixed, text[to+len(end):]...))
	return len(text), err
}
