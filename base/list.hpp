// Intrusive containers: the link lives in the element, so nothing here allocates. Not thread-safe; owned by whoever
// owns the elements.
#pragma once

#include <cstddef>

#include "base/check.hpp"

namespace base {

// A link of a doubly linked List; unlinked when both pointers are null.
struct ListLink {
    ListLink* prev = nullptr;
    ListLink* next = nullptr;

    bool linked() const { return next != nullptr; }
    void unlink()
    {
        INVARIANT(linked());
        prev->next = next;
        next->prev = prev;
        prev = next = nullptr;
    }
};

// A doubly linked list of T through its member Link; O(1) insertion and removal. Elements outlive their membership.
template <typename T, ListLink T::*Link>
class List {
public:
    List() { head_.prev = head_.next = &head_; }
    List(const List&) = delete;
    List& operator=(const List&) = delete;

    bool empty() const { return head_.next == &head_; }
    T* front() { return empty() ? nullptr : element(head_.next); }
    T* next(T& e)
    {
        ListLink* n = (e.*Link).next;
        return n == &head_ ? nullptr : element(n);
    }
    void push_back(T& e) { insert_before(head_, e); }
    void push_front(T& e) { insert_before(*head_.next, e); }
    T* pop_front()
    {
        T* e = front();
        if (e != nullptr) {
            (e->*Link).unlink();
        }
        return e;
    }

private:
    static T* element(ListLink* l)
    {
        alignas(T) static char probe[sizeof(T)];
        auto offset = reinterpret_cast<char*>(&(reinterpret_cast<T*>(probe)->*Link)) - probe;
        return reinterpret_cast<T*>(reinterpret_cast<char*>(l) - offset);
    }
    void insert_before(ListLink& at, T& e)
    {
        ListLink& l = e.*Link;
        INVARIANT(!l.linked());
        l.prev = at.prev;
        l.next = &at;
        at.prev->next = &l;
        at.prev = &l;
    }

    ListLink head_;
};

// A singly linked FIFO of T through its member pointer Next (null when last).
template <typename T, T* T::*Next>
class Queue {
public:
    bool empty() const { return head_ == nullptr; }
    std::size_t size() const { return size_; }
    T* front() const { return head_; }
    void push(T& e)
    {
        e.*Next = nullptr;
        if (tail_ == nullptr) {
            head_ = &e;
        } else {
            tail_->*Next = &e;
        }
        tail_ = &e;
        ++size_;
    }
    T* pop()
    {
        T* e = head_;
        if (e != nullptr) {
            head_ = e->*Next;
            if (head_ == nullptr) {
                tail_ = nullptr;
            }
            e->*Next = nullptr;
            --size_;
        }
        return e;
    }

private:
    T* head_ = nullptr;
    T* tail_ = nullptr;
    std::size_t size_ = 0;
};

} // namespace base
